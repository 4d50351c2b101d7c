//! Removing paths from a value.

use serde_json::{Map, Value};

use super::{Resolved, element_shape, field_shape, item_element, resolve};
use crate::element::PathElement;
use crate::set::Set;
use crate::shape::{ListKind, MapKind, Shape};

/// Takes the paths of a set out of a value. What is left of a container stays, even when it is empty.
pub(crate) fn remove_items(value: &Value, remove: &Set, shape: &Shape) -> Value {
    match resolve(shape.atom(), Some(value)) {
        Resolved::Scalar => value.clone(),
        Resolved::List(kind) => match value {
            Value::Array(items) if !items.is_empty() => list(items, &kind, remove, shape),
            _ => Value::Null,
        },
        Resolved::Map(kind) => match value {
            Value::Object(map) if !map.is_empty() && kind == MapKind::Granular => fields(map, remove, shape),
            _ => Value::Null,
        },
        Resolved::Nothing => Value::Null,
    }
}

fn list(items: &[Value], kind: &ListKind, remove: &Set, shape: &Shape) -> Value {
    if *kind == ListKind::Atomic {
        return Value::Null;
    }
    let element = element_shape(shape);
    let mut out = Vec::new();
    let mut matched = false;
    for item in items {
        let Ok(step) = item_element(kind, &element, item) else {
            out.push(item.clone());
            continue;
        };
        if remove.has_element(&step) {
            continue;
        }
        match remove.with_prefix(&step) {
            Some(below) => {
                matched = true;
                out.push(keep_container(item, remove_items(item, below, &element)));
            }
            None => out.push(item.clone()),
        }
    }
    if out.is_empty() && !matched { Value::Null } else { Value::Array(out) }
}

fn fields(map: &Map<String, Value>, remove: &Set, shape: &Shape) -> Value {
    let mut out = Map::new();
    let mut matched = false;
    for (name, value) in map {
        let step = PathElement::field(name);
        if remove.has_element(&step) {
            continue;
        }
        let kept = match remove.with_prefix(&step) {
            Some(below) => {
                matched = true;
                keep_container(value, remove_items(value, below, &field_shape(shape, name)))
            }
            None => value.clone(),
        };
        out.insert(name.clone(), kept);
    }
    if out.is_empty() && !matched { Value::Null } else { Value::Object(out) }
}

/// Something inside was removed, not the container: it stays, empty.
fn keep_container(before: &Value, after: Value) -> Value {
    match (before, after) {
        (Value::Object(_), Value::Null) => Value::Object(Map::new()),
        (Value::Array(_), Value::Null) => Value::Array(Vec::new()),
        (_, after) => after,
    }
}
