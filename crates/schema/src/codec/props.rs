//! The three unions of CRD schemas: a schema or an array, a boolean, a list of strings.

use serde_json::Value;

use super::from_proto::Walk;
use super::sink::Sink;
use super::to_proto::{self, Out};
use super::wire::Reader;
use super::{Result, wire};
use crate::table::{Elem, TypeRef};

/// Writes a union as upstream's `MarshalJSON`: the schema when there is one, else the other form.
pub(super) fn read<S: Sink>(walk: &mut Walk<'_, S>, elem: Elem, bytes: &[u8], depth: usize) -> Result<()> {
    let (schema_number, id) = match elem {
        Elem::PropsOrBool(id) => (2, id),
        Elem::PropsOrArray(id) | Elem::PropsOrStrings(id) => (1, id),
        _ => {
            walk.sink.null();
            return Ok(());
        }
    };
    let (mut schema, mut allows, mut list) = (None, false, Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        match raw.number {
            number if number == schema_number => schema = Some(raw.bytes),
            1 => allows = raw.int != 0,
            2 => list.push(raw),
            _ => {}
        }
    }
    match (elem, schema) {
        (Elem::PropsOrBool(_), None) => walk.sink.bool(allows),
        (Elem::PropsOrArray(_) | Elem::PropsOrStrings(_), _) if !list.is_empty() => {
            let item = if matches!(elem, Elem::PropsOrArray(_)) { Elem::Struct(id) } else { Elem::String };
            walk.sink.begin_array();
            for raw in list {
                walk.sink.elem();
                walk.value(item, raw, depth)?;
            }
            walk.sink.end_array();
        }
        (_, Some(schema)) => walk.message(TypeRef(id), schema, depth)?,
        (_, None) => walk.sink.null(),
    }
    Ok(())
}

/// Writes the content of a union's message.
pub(super) fn write(out: &mut Out, name: &str, elem: Elem, value: &Value, depth: usize) -> Result<()> {
    let (schema_number, id) = match elem {
        Elem::PropsOrBool(id) => (2, id),
        Elem::PropsOrArray(id) | Elem::PropsOrStrings(id) => (1, id),
        _ => return Ok(()),
    };
    match (value, elem) {
        (Value::Object(map), _) => {
            let start = out.len();
            to_proto::message(out, TypeRef(id), map, depth)?;
            out.message_field(schema_number, start);
        }
        (Value::Array(items), _) => {
            let item = if matches!(elem, Elem::PropsOrArray(_)) { Elem::Struct(id) } else { Elem::String };
            for value in items.iter().rev() {
                to_proto::field_value(out, name, 2, item, value, depth)?;
            }
        }
        _ => {}
    }
    if let Elem::PropsOrBool(_) = elem {
        let allows = matches!(value, Value::Object(_) | Value::Bool(true));
        out.varint(u64::from(allows));
        out.tag(1, wire::VARINT);
    }
    Ok(())
}
