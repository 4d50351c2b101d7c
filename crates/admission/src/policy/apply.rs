//! What mutations make of an object: JSON patches and applied configurations.

use celx::{Key, Map, Value};
use managedfields::{ListKind, MapKind, Shape};
use meta::{Object, patch};
use serde_json::{Value as Json, json};

use crate::plugin::Request;

/// A list of `JSONPatch{}` as a patch.
///
/// # Errors
/// A member is something else.
pub(super) fn operations(value: &Value<'_>) -> Result<Json, String> {
    let items = value.items().map_err(|e| e.to_string())?;
    let mut operations = Vec::with_capacity(items.len());
    for item in items {
        let Value::Map(Map::Object(object)) = &item else {
            return Err(format!(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch but got {}",
                item.type_name()
            ));
        };
        let mut operation = json!({});
        for (key, value) in &object.1 {
            if let Key::Str(name) = key {
                operation[&**name] = value.to_json().map_err(|e| e.to_string())?;
            }
        }
        operations.push(operation);
    }
    Ok(Json::Array(operations))
}

/// The object after a JSON patch.
///
/// # Errors
/// The patch is malformed or does not fit the object.
pub(super) fn json_patch(object: &Object, operations: &Json) -> Result<Json, String> {
    let mut tree = Json::Object(object.body.clone());
    patch::json_patch(&mut tree, operations.to_string().as_bytes())
        .map_err(|e| format!("JSON Patch: error applying JSON patch to object: {e}"))?;
    Ok(tree)
}

/// Checks that constructors are named after the fields in which they stand.
///
/// # Errors
/// One is not.
pub(super) fn checked(value: &Value<'_>) -> Result<(), String> {
    check(value, "Object")
}

fn check(value: &Value<'_>, path: &str) -> Result<(), String> {
    match value {
        Value::Map(Map::Object(object)) => {
            if object.0 != path {
                return Err(format!(
                    "type mismatch: unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
                    object.0
                ));
            }
            object.1.iter().try_for_each(|(key, value)| match key {
                Key::Str(name) => check(value, &format!("{path}.{name}")),
                _ => Ok(()),
            })
        }
        Value::Map(map) => {
            let entries = map.entries().map_err(|e| e.to_string())?;
            entries.iter().try_for_each(|(_, value)| check(value, path))
        }
        Value::List(_) => value.items().map_err(|e| e.to_string())?.iter().try_for_each(|item| check(item, path)),
        Value::Optional(Some(value)) => check(value, path),
        _ => Ok(()),
    }
}

fn shape_of(request: &Request<'_>, object: &Object) -> Shape {
    let resource = request.registry.and_then(|r| r.get(&request.resource.group, &request.resource.resource));
    let custom = resource.as_ref().and_then(|resource| resource.row.custom.as_ref());
    match custom {
        Some(custom) => managedfields::custom_shape(custom.schema(&object.gvk().version).as_deref()),
        None => {
            schema::codec::type_of(&object.gvk().api_version(), object.kind()).map_or(Shape::Deduced, Shape::Struct)
        }
    }
}

/// The object after a configuration was applied to it, as server-side apply merges it.
///
/// # Errors
/// The configuration does not fit the type, or names parts that merge only as a whole.
pub(super) fn configuration(request: &Request<'_>, object: &Object, mut config: Json) -> Result<Json, String> {
    let shape = shape_of(request, object);
    config["apiVersion"] = object.gvk().api_version().into();
    config["kind"] = object.kind().into();
    let mut atomics = Vec::new();
    find_atomics(&config, &shape, String::new(), &mut atomics);
    if !atomics.is_empty() {
        let list = atomics.join(", ");
        return Err(format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {list}"
        ));
    }
    managedfields::merged(&Json::Object(object.body.clone()), &config, &shape)
        .map_err(|cause| format!("error applying patch: {cause}"))
}

fn find_atomics(value: &Json, shape: &Shape, path: String, found: &mut Vec<String>) {
    let atom = shape.atom();
    match value {
        Json::Object(map) if atom.map.is_some() => {
            if atom.map == Some(MapKind::Atomic) {
                found.push(path.clone());
            }
            for (key, value) in map {
                if let Some(field) = shape.field(key) {
                    find_atomics(value, &field, format!("{path}.{key}"), found);
                }
            }
        }
        Json::Array(items) if atom.list.is_some() => {
            if atom.list == Some(ListKind::Atomic) {
                found.push(path.clone());
            }
            let Some(element) = shape.element() else { return };
            for (index, item) in items.iter().enumerate() {
                find_atomics(item, &element, format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}
