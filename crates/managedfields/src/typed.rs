//! Operations on values seen through shapes: validate, field sets, compare, merge, remove.

mod compare;
mod merge;
mod remove;
mod to_set;
mod validate;

pub(crate) use compare::{Comparison, compare};
pub(crate) use merge::merge;
pub(crate) use remove::remove_items;
pub(crate) use to_set::to_set;
pub(crate) use validate::validate;

use serde_json::Value;

use crate::element::PathElement;
use crate::shape::{Atom, ListKind, MapKind, Shape};
use crate::value;

/// What a value is, once its shape and itself are asked.
pub(crate) enum Resolved {
    Scalar,
    List(ListKind),
    Map(MapKind),
    /// The shape knows nothing.
    Nothing,
}

/// Picks the part of an atom that fits the value, or else its first part: map, scalar, list.
pub(crate) fn resolve(atom: Atom, value: Option<&Value>) -> Resolved {
    match value {
        Some(Value::Number(_) | Value::String(_) | Value::Bool(_)) if atom.scalar.is_some() => return Resolved::Scalar,
        Some(Value::Array(_)) => {
            if let Some(kind) = atom.list {
                return Resolved::List(kind);
            }
        }
        Some(Value::Object(_)) => {
            if let Some(kind) = atom.map {
                return Resolved::Map(kind);
            }
        }
        _ => {}
    }
    match (atom.map, atom.scalar, atom.list) {
        (Some(kind), _, _) => Resolved::Map(kind),
        (None, Some(_), _) => Resolved::Scalar,
        (None, None, Some(kind)) => Resolved::List(kind),
        (None, None, None) => Resolved::Nothing,
    }
}

/// The shape of a map's field: declared, or else that of all others.
pub(crate) fn field_shape(shape: &Shape, name: &str) -> Shape {
    shape.field(name).or_else(|| shape.element()).unwrap_or(Shape::Deduced)
}

pub(crate) fn element_shape(shape: &Shape) -> Shape {
    shape.element().unwrap_or(Shape::Deduced)
}

/// The step to an item of an associative list.
///
/// # Errors
/// Upstream's words for an item that has no key.
pub(crate) fn item_element(kind: &ListKind, element: &Shape, item: &Value) -> Result<PathElement, String> {
    match kind {
        ListKind::Atomic => Err("invalid indexing of non-associative list".to_owned()),
        ListKind::Set => match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(PathElement::Value(scalar.clone())),
        },
        ListKind::Keyed(keys) => {
            let map = match item {
                Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
                Value::Object(map) => map,
                _ => return Err("associative list with keys may not have non-map elements".to_owned()),
            };
            let found = keys.iter().filter_map(|key| {
                let value = map.get(key).cloned().or_else(|| element.default_of(key))?;
                Some((key.clone(), value))
            });
            let mut found: Vec<(String, Value)> = found.collect();
            if found.is_empty() {
                let names: Vec<String> = keys.iter().map(|k| format!("{k:?}")).collect();
                return Err(format!(
                    "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                    names.join(" ")
                ));
            }
            found.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(PathElement::Key(found))
        }
    }
}

/// `null` and absent count as an empty container.
pub(crate) fn is_empty_container(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => true,
    }
}

pub(crate) fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Validation errors: a path and what is wrong there.
pub(crate) type Errors = Vec<(String, String)>;

/// The errors in upstream's words.
pub(crate) fn errors_text(errors: &Errors) -> String {
    let one = |(path, message): &(String, String)| {
        if path.is_empty() { message.clone() } else { format!("{path}: {message}") }
    };
    match errors.as_slice() {
        [only] => one(only),
        many => {
            let lines: Vec<String> = many.iter().map(|e| format!("  {}", one(e))).collect();
            format!("errors:\n{}", lines.join("\n"))
        }
    }
}

pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    value::equal(a, b)
}
