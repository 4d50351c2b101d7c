//! Pruning and defaulting by a structural schema.

use meta::{Object, Status};
use serde_json::{Map, Value};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// Removes what the schema does not know; gives the paths, as upstream's strict decoding names them.
pub(super) fn prune(object: &mut Object, schema: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_map(&mut object.body, schema, "", true, &mut unknown);
    unknown.sort();
    unknown.into_iter().map(|path| format!("unknown field {path:?}")).collect()
}

fn join(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") }
}

fn prune_map(map: &mut Map<String, Value>, schema: &Value, path: &str, resource: bool, unknown: &mut Vec<String>) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let additional = schema.get("additionalProperties").filter(|a| a.is_object());
    let open = flag(schema, PRESERVE) || schema.get("additionalProperties") == Some(&Value::Bool(true));
    let mut gone = Vec::new();
    for (key, value) in map.iter_mut() {
        if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        match properties.and_then(|p| p.get(key)).or(additional) {
            Some(child) => prune_value(value, child, &join(path, key), unknown),
            None if open => {}
            None => gone.push(key.clone()),
        }
    }
    for key in gone {
        map.remove(&key);
        unknown.push(join(path, &key));
    }
}

fn prune_value(value: &mut Value, schema: &Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => prune_map(map, schema, path, flag(schema, EMBEDDED), unknown),
        Value::Array(items) => {
            let Some(child) = schema.get("items").filter(|i| i.is_object()) else { return };
            for (at, item) in items.iter_mut().enumerate() {
                prune_value(item, child, &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}

/// Fills in defaults; a null where null is not allowed and a default exists counts as absent.
pub(super) fn default(map: &mut Map<String, Value>, schema: &Value) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (key, child) in properties {
            let Some(preset) = child.get("default") else { continue };
            let absent = match map.get(key) {
                None => true,
                Some(Value::Null) => !flag(child, "nullable"),
                Some(_) => false,
            };
            if absent {
                map.insert(key.clone(), preset.clone());
            }
        }
    }
    let additional = schema.get("additionalProperties").filter(|a| a.is_object());
    for (key, value) in map.iter_mut() {
        let child = schema.get("properties").and_then(|p| p.get(key)).or(additional);
        if let Some(child) = child {
            default_value(value, child);
        }
    }
}

fn default_value(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => default(map, schema),
        Value::Array(items) => {
            if let Some(child) = schema.get("items") {
                items.iter_mut().for_each(|item| default_value(item, child));
            }
        }
        _ => {}
    }
}

/// Brings `metadata` into the shape of `ObjectMeta`; gives its unknown fields.
///
/// # Errors
/// A value of the wrong type.
pub(super) fn coerce_metadata(object: &mut Object) -> Result<Vec<String>, Status> {
    let Some(Value::Object(metadata)) = object.body.remove("metadata") else { return Ok(Vec::new()) };
    let decoded = schema::codec::decode_value_as(schema::TypeRef::OBJECT_META, metadata)
        .map_err(|e| Status::bad_request(format!("metadata: {e}")))?;
    object.body.insert("metadata".into(), Value::Object(decoded.object.body));
    Ok(decoded.strict.into_iter().map(|s| s.replacen("field \"", "field \"metadata.", 1)).collect())
}
