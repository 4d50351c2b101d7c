//! A definition as the pipeline needs it: versions with schemas, and the codec of its objects.

use std::sync::Arc;

use meta::{GroupVersionKind, Object, Status};
use registry::{CustomCodec, KindRow, ScalePaths, SelectableField, Sub, Verbs};
use serde_json::{Value, json};

use super::columns::{self, PrinterColumn};
use super::convert::Converter;
use super::prune;
use super::rules::Rules;
use super::strategy::{Main, StatusPart};
use super::validate::Patterns;

/// One version of a definition.
pub(super) struct Version {
    pub name: String,
    pub served: bool,
    pub storage: bool,
    pub schema: Option<Arc<Value>>,
    pub rules: Option<Rules>,
    pub status: bool,
    pub scale: Option<ScalePaths>,
    pub columns: Vec<PrinterColumn>,
}

/// A definition.
pub(super) struct Definition {
    pub group: String,
    pub versions: Vec<Version>,
    /// Whether any version has a status subresource.
    pub any_status: bool,
    pub patterns: Patterns,
    pub selectable: &'static [SelectableField],
    pub preserve: bool,
    pub converter: Converter,
}

fn path(text: &str) -> Vec<String> {
    text.trim_start_matches('.').split('.').map(str::to_owned).collect()
}

fn version(value: &Value) -> Version {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
    let scale = text("/subresources/scale/specReplicasPath").map(|spec| ScalePaths {
        spec_replicas: path(spec),
        status_replicas: path(text("/subresources/scale/statusReplicasPath").unwrap_or(".status.replicas")),
        selector: text("/subresources/scale/labelSelectorPath").map(path),
    });
    Version {
        name: text("/name").unwrap_or("").to_owned(),
        served: flag("served"),
        storage: flag("storage"),
        schema: value.pointer("/schema/openAPIV3Schema").filter(|s| s.is_object()).cloned().map(Arc::new),
        rules: value.pointer("/schema/openAPIV3Schema").and_then(|schema| Rules::compile(schema, true)),
        status: value.pointer("/subresources/status").is_some_and(Value::is_object),
        scale,
        columns: columns::of_version(value),
    }
}

/// Selectable fields are named in static tables for built-in kinds; a definition's few names live as long as the process.
fn selectable(spec: &Value) -> &'static [SelectableField] {
    let mut all: Vec<SelectableField> = Vec::new();
    for version in spec.get("versions").and_then(Value::as_array).into_iter().flatten() {
        for field in version.get("selectableFields").and_then(Value::as_array).into_iter().flatten() {
            let Some(text) = field.get("jsonPath").and_then(Value::as_str) else { continue };
            let name = text.trim_start_matches('.');
            if all.iter().any(|f| f.name == name) {
                continue;
            }
            let steps: Vec<&'static str> =
                name.split('.').map(|s| &*Box::leak(s.to_owned().into_boxed_str())).collect();
            let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
            all.push(SelectableField::path(name, Box::leak(steps.into_boxed_slice())));
        }
    }
    if all.is_empty() { &[] } else { Box::leak(all.into_boxed_slice()) }
}

impl Definition {
    /// Reads `spec` of a definition.
    pub fn new(object: &Object, registry: &Arc<registry::Registry>) -> Self {
        let empty = json!({});
        let spec = object.get(&["spec"]).unwrap_or(&empty);
        let listed = spec.get("versions").and_then(Value::as_array);
        let versions: Vec<Version> = listed.into_iter().flatten().map(version).collect();
        Self {
            group: object.get_str(&["spec", "group"]).to_owned(),
            any_status: versions.iter().any(|v| v.status),
            versions,
            patterns: Patterns::default(),
            selectable: selectable(spec),
            preserve: spec.get("preserveUnknownFields").and_then(Value::as_bool).unwrap_or(false),
            converter: Converter::new(spec, registry),
        }
    }

    /// A version by name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name)
    }

    /// The stored version.
    pub fn hub(&self) -> &Version {
        self.versions.iter().find(|v| v.storage).unwrap_or(&self.versions[0])
    }

    /// Whether a version has a status subresource.
    pub fn has_status(&self, version: &str) -> bool {
        self.version(version).is_some_and(|v| v.status)
    }
}

/// The row that serves a definition; `None` when no version is served.
pub(super) fn row(object: &Object, registry: &Arc<registry::Registry>) -> Option<KindRow> {
    let definition = Arc::new(Definition::new(object, registry));
    if definition.versions.is_empty() {
        return None;
    }
    let name = |field: &str| object.get_str(&["spec", "names", field]);
    let mut served: Vec<String> = definition.versions.iter().filter(|v| v.served).map(|v| v.name.clone()).collect();
    served.sort_by_key(|v| std::cmp::Reverse(crate::discovery::version_rank(v)));
    if served.is_empty() {
        return None;
    }
    let hub = definition.hub();
    let strings = |field: &str| -> Vec<String> {
        let list = object.get(&["spec", "names", field]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let main = Arc::new(Main(definition.clone()));
    let mut row = KindRow::new(&definition.group, &hub.name, name("kind"), name("plural"), main).json();
    row.versions = served;
    row.list_kind = match name("listKind") {
        "" => format!("{}List", row.kind),
        given => given.to_owned(),
    };
    row.singular = match name("singular") {
        "" => row.kind.to_lowercase(),
        given => given.to_owned(),
    };
    row.short_names = strings("shortNames");
    row.categories = strings("categories");
    row.namespaced = object.get_str(&["spec", "scope"]) == "Namespaced";
    row.key_prefix = format!("/registry/{}/{}", definition.group, row.plural);
    if definition.any_status {
        row = row.status(Arc::new(StatusPart(definition.clone())));
    }
    if let Some(paths) = definition.versions.iter().find_map(|v| v.scale.clone()) {
        let kind = GroupVersionKind::new("autoscaling", "v1", "Scale");
        row = row.sub("scale", Verbs::STATUS, Some(kind), Sub::Scale(paths));
    }
    row.custom = Some(Arc::new(Codec(definition)));
    Some(row)
}

struct Codec(Arc<Definition>);

impl CustomCodec for Codec {
    fn accept(&self, object: &mut Object, version: &str) -> Result<Vec<String>, Status> {
        let mut unknown = prune::coerce_metadata(object)?;
        let Some(version) = self.0.version(version) else { return Ok(unknown) };
        let Some(schema) = &version.schema else { return Ok(unknown) };
        if !self.0.preserve {
            unknown.extend(prune::prune(object, schema));
        }
        prune::default(&mut object.body, schema);
        Ok(unknown)
    }

    fn convert(&self, object: &mut Object, to: &GroupVersionKind) -> Result<(), Status> {
        self.0.converter.convert(object, to)?;
        if let Some(schema) = self.0.version(&to.version).and_then(|v| v.schema.as_ref()) {
            prune::default(&mut object.body, schema);
        }
        Ok(())
    }

    fn schema(&self, version: &str) -> Option<Arc<Value>> {
        self.0.version(version)?.schema.clone()
    }
}
