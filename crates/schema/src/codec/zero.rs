//! Go's zero values: what is printed when a field is missing, and what is left out when it is there.

use serde_json::{Map, Value};

use crate::table::{Card, Elem, Field, TypeRef};

/// The zero value of a struct.
fn zero_of(t: TypeRef) -> Map<String, Value> {
    let mut map = Map::new();
    fill(t, &mut map);
    map
}

/// Whether Go holds a struct by value, which `omitempty` never leaves out.
fn by_value_struct(field: &Field) -> bool {
    !field.is_pointer()
        && field.card() == Card::One
        && matches!(
            field.elem(),
            Elem::Struct(_)
                | Elem::Time
                | Elem::MicroTime
                | Elem::Duration
                | Elem::Quantity
                | Elem::IntOrString
                | Elem::Raw
                | Elem::Json
                | Elem::PropsOrArray(_)
                | Elem::PropsOrBool(_)
                | Elem::PropsOrStrings(_)
        )
}

/// Whether Go's tags leave the value out.
pub(super) fn is_omitted(field: &Field, value: &Value) -> bool {
    if field.omit_zero() && value.is_null() {
        return true;
    }
    if !field.omit_empty() || field.is_pointer() || by_value_struct(field) {
        return false;
    }
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() && field.card() != Card::One,
    }
}

/// Puts Go's zero values where fields are missing and would be printed.
pub(super) fn fill(t: TypeRef, map: &mut Map<String, Value>) {
    for field in t.fields() {
        if field.is_inline() {
            match field.struct_type() {
                Some(inner) if !field.is_pointer() => fill(inner, map),
                _ => {}
            }
            continue;
        }
        if map.contains_key(field.name()) {
            continue;
        }
        let printed = !field.omit_empty() && !field.omit_zero() || by_value_struct(field) && !field.omit_zero();
        if printed {
            let nil = field.is_pointer() || field.card() != Card::One;
            map.insert(field.name().to_owned(), if nil { Value::Null } else { zero(field.elem()) });
        }
    }
}

/// Go's zero value as JSON shows it.
pub(super) fn zero(elem: Elem) -> Value {
    match elem {
        Elem::String => "".into(),
        Elem::Bool | Elem::PropsOrBool(_) => false.into(),
        Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64 | Elem::F64 | Elem::IntOrString => 0.into(),
        Elem::Duration => "0s".into(),
        Elem::Quantity => "0".into(),
        Elem::Struct(id) => Value::Object(zero_of(TypeRef(id))),
        _ => Value::Null,
    }
}
