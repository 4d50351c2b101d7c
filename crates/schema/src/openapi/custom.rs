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

/// Makes the definitions of one version of a CRD. `schema` is its `openAPIV3Schema`; without one the definition says no
/// more than `object`, since kubectl takes known fields for the only ones.
pub fn definitions(
    gvk: &GroupVersionKind,
    list_kind: &str,
    plural: &str,
    schema: Option<&Value>,
    describe: Describe<'_>,
) -> Definitions {
    let mut parts: Vec<&str> = gvk.group.split('.').collect();
    parts.reverse();
    let prefix = format!("{}.{}", parts.join("."), gvk.version);
    let (name, list_name) = (format!("{prefix}.{}", gvk.kind), format!("{prefix}.{list_kind}"));
    let mut object = match schema {
        Some(Value::Object(map)) => {
            let mut object = published(map.clone(), describe);
            add_type_meta(&mut object, describe);
            object
        }
        _ => Map::from_iter([("type".to_owned(), Value::from("object"))]),
    };
    let stamp = |kind: &str| json!([{"group": gvk.group, "version": gvk.version, "kind": kind}]);
    object.insert("x-kubernetes-group-version-kind".to_owned(), stamp(&gvk.kind));
    let mut metadata = json!({"allOf": [reference(&format!("{META}.ListMeta"))]});
    if let Some(text) = describe(SAMPLE_LIST, "metadata") {
        metadata["description"] = text.into();
    }
    let mut list = json!({
        "description": format!("{list_kind} is a list of {}", gvk.kind),
        "type": "object", "required": ["items"],
        "properties": {
            "items": {"type": "array", "items": reference(&name), "description": format!("List of {plural}.")},
            "metadata": metadata,
        },
        "x-kubernetes-group-version-kind": stamp(list_kind),
    });
    for field in ["apiVersion", "kind"] {
        list["properties"][field] = text_field(describe, SAMPLE, field);
    }
    Definitions { schemas: vec![(name.clone(), object.into()), (list_name.clone(), list)], name, list_name }
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

/// A structural schema as upstream publishes it: embedded resources get their type and metadata.
fn published(mut map: Map<String, Value>, describe: Describe<'_>) -> Map<String, Value> {
    for key in ["$schema", "id", "definitions", "dependencies", "example", "externalDocs"] {
        map.remove(key);
    }
    let inner = |value: Value| match value {
        Value::Object(inner) => Value::Object(published(inner, describe)),
        other => other,
    };
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        *properties = std::mem::take(properties).into_iter().map(|(key, value)| (key, inner(value))).collect();
    }
    for key in ["items", "additionalProperties"] {
        if let Some(value) = map.get_mut(key) {
            *value = inner(value.take());
        }
    }
    if map.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)) {
        add_type_meta(&mut map, describe);
        let required = map.entry("required").or_insert_with(|| Value::Array(Vec::new()));
        for field in ["kind", "apiVersion"] {
            match required {
                Value::Array(list) if !list.iter().any(|r| r == field) => list.push(field.into()),
                _ => {}
            }
        }
    }
    map
}
