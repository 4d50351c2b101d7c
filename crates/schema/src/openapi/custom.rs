//! Definitions of custom resources, from the schema of their CRD.

use meta::GroupVersionKind;
use serde_json::{Map, Value, json};

use super::Describe;
use super::definitions::reference;

/// The definitions of a custom resource and its list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Definitions {
    /// Of the kind: `com.example.v1.Widget`.
    pub name: String,
    /// Of the list kind.
    pub list_name: String,
    /// Both, by name.
    pub schemas: Vec<(String, Value)>,
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
/// A built-in kind whose texts for `apiVersion`, `kind` and `metadata` serve for all.
const SAMPLE: &str = "io.k8s.api.core.v1.ConfigMap";
const SAMPLE_LIST: &str = "io.k8s.api.core.v1.ConfigMapList";

/// Makes the definitions of one version of a CRD. `schema` is its `openAPIV3Schema`; without one, or when unknown fields
/// are preserved at the root, the definition says no more than `object`.
pub fn definitions(gvk: &GroupVersionKind, list_kind: &str, schema: Option<&Value>, describe: Describe<'_>) -> Definitions {
    let mut parts: Vec<&str> = gvk.group.split('.').collect();
    parts.reverse();
    let prefix = format!("{}.{}", parts.join("."), gvk.version);
    let (name, list_name) = (format!("{prefix}.{}", gvk.kind), format!("{prefix}.{list_kind}"));
    let mut object = match schema {
        Some(Value::Object(map)) => prune(map.clone()),
        _ => Map::from_iter([("type".to_owned(), Value::from("object"))]),
    };
    let open = object.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if schema.is_some() && !open || object.contains_key("properties") {
        add_type_meta(&mut object, describe);
    }
    let stamp = |kind: &str| json!([{"group": gvk.group, "version": gvk.version, "kind": kind}]);
    object.insert("x-kubernetes-group-version-kind".to_owned(), stamp(&gvk.kind));
    let mut list = json!({
        "description": format!("{list_kind} is a list of {}", gvk.kind),
        "type": "object", "required": ["items"],
        "properties": {
            "items": {"type": "array", "items": reference(&name), "description": format!("List of {}.", plural_text(&gvk.kind))},
            "metadata": {"allOf": [reference(&format!("{META}.ListMeta"))]},
        },
        "x-kubernetes-group-version-kind": stamp(list_kind),
    });
    for field in ["apiVersion", "kind"] {
        list["properties"][field] = text_field(describe, SAMPLE_LIST, field);
    }
    Definitions { schemas: vec![(name.clone(), object.into()), (list_name.clone(), list)], name, list_name }
}

fn plural_text(kind: &str) -> String {
    format!("{} objects", kind.to_lowercase())
}

fn add_type_meta(object: &mut Map<String, Value>, describe: Describe<'_>) {
    object.entry("type").or_insert_with(|| "object".into());
    let properties = object.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    for field in ["apiVersion", "kind"] {
        properties[field] = text_field(describe, SAMPLE, field);
    }
    let mut metadata = json!({"allOf": [reference(&format!("{META}.ObjectMeta"))]});
    if let Some(text) = describe(SAMPLE, "metadata") {
        metadata["description"] = text.into();
    }
    properties["metadata"] = metadata;
}

fn text_field(describe: Describe<'_>, definition: &str, field: &str) -> Value {
    let mut schema = json!({"type": "string"});
    if let Some(text) = describe(definition, field) {
        schema["description"] = text.into();
    }
    schema
}

/// Leaves out what upstream does not publish of a structural schema.
fn prune(mut map: Map<String, Value>) -> Map<String, Value> {
    for key in ["$schema", "id", "definitions", "dependencies"] {
        map.remove(key);
    }
    if map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        // Published as it is: clients know the extension.
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        let pruned = std::mem::take(properties).into_iter().map(|(key, value)| match value {
            Value::Object(inner) => (key, Value::Object(prune(inner))),
            other => (key, other),
        });
        *properties = pruned.collect();
    }
    map
}
