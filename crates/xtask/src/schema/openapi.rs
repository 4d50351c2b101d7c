//! What OpenAPI adds to the Go facts: list and map types, keys, defaults, required fields.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The facts about one property.
#[derive(Default, Clone)]
pub struct Property {
    pub list_type: Option<String>,
    pub list_keys: Vec<String>,
    pub map_type: Option<String>,
    pub default: Option<String>,
}

/// The facts about one definition.
#[derive(Default, Clone)]
pub struct Definition {
    pub required: HashSet<String>,
    pub atomic: bool,
    /// `x-kubernetes-unions` as JSON text.
    pub unions: Option<String>,
    pub properties: BTreeMap<String, Property>,
}

/// Definitions keyed by Go package and type, as `api/core/v1.PodSpec`.
pub fn load(upstream: &Path) -> Result<BTreeMap<String, Definition>> {
    let mut definitions = BTreeMap::new();
    let mut files: Vec<_> = std::fs::read_dir(upstream.join("openapi/v3"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let document: Value = serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))?;
        let Some(schemas) = document["components"]["schemas"].as_object() else { continue };
        for (name, schema) in schemas {
            if let Some(key) = go_key(name) {
                definitions.insert(key, definition(schema));
            }
        }
    }
    Ok(definitions)
}

/// `io.k8s.api.core.v1.PodSpec` → `api/core/v1.PodSpec`.
fn go_key(name: &str) -> Option<String> {
    let (package, kind) = name.strip_prefix("io.k8s.")?.rsplit_once('.')?;
    Some(format!("{}.{kind}", package.replace('.', "/")))
}

fn definition(schema: &Value) -> Definition {
    let mut result = Definition {
        required: strings(&schema["required"]).into_iter().collect(),
        atomic: schema["x-kubernetes-map-type"] == "atomic",
        unions: schema.get("x-kubernetes-unions").map(Value::to_string),
        properties: BTreeMap::new(),
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let text = |key: &str| property[key].as_str().map(str::to_owned);
        result.properties.insert(
            name.clone(),
            Property {
                list_type: text("x-kubernetes-list-type"),
                list_keys: strings(&property["x-kubernetes-list-map-keys"]),
                map_type: text("x-kubernetes-map-type"),
                default: property.get("default").map(Value::to_string),
            },
        );
    }
    result
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}
