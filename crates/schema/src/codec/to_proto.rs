//! Trees to protobuf: byte for byte what upstream's gogo code writes.
//!
//! Fields go by ascending number, maps by sorted key; scalars and structs that Go holds by value are always written,
//! pointers, lists and maps only when they are there.

use base64::Engine;
use serde_json::{Map, Value};

use super::scalars::{canonical_quantity, parse_duration, parse_time, write_time};
use super::wire::{self, BackWriter};
use super::{Error, MAX_DEPTH, Result, props};
use crate::table::{Card, Elem, Field, TypeRef};

pub(super) type Out = BackWriter;

/// Encodes a tree as a bare message. Unknown fields are left out, missing ones are zero.
///
/// # Errors
/// A value of the wrong type, or nesting beyond [`MAX_DEPTH`].
pub fn encode_message(t: TypeRef, tree: &Map<String, Value>) -> Result<Vec<u8>> {
    let mut out = Out::default();
    message(&mut out, t, tree, 0)?;
    Ok(out.finish())
}

/// Encodes an object with upstream's envelope as it is stored: without `resourceVersion` and `selfLink`.
///
/// # Errors
/// An unknown kind, or a value of the wrong type.
pub fn encode_stored(object: &meta::Object) -> Result<Vec<u8>> {
    let t = super::type_of(object.api_version(), object.kind())?;
    let mut out = Out::stored();
    out.bytes(&super::envelope::END);
    let start = out.len();
    message(&mut out, t, &object.body, 0)?;
    out.message_field(2, start);
    let start = out.len();
    out.bytes_field(2, object.kind().as_bytes());
    out.bytes_field(1, object.api_version().as_bytes());
    out.message_field(1, start);
    out.bytes(&super::envelope::MAGIC);
    Ok(out.finish())
}

pub(super) fn message(out: &mut Out, t: TypeRef, tree: &Map<String, Value>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let fields = t.fields();
    let unversioned = depth == 1 && out.is_stored() && t == TypeRef::OBJECT_META;
    for &at in t.wire_order().iter().rev() {
        let field = &fields[usize::from(at)];
        if field.number() == 0 {
            // Numbers ascend: what is left has no wire form.
            break;
        }
        if field.is_inline() {
            inline(out, field, tree, depth)?;
            continue;
        }
        let value = tree.get(field.name()).filter(|v| !v.is_null());
        let value = value.filter(|_| !(unversioned && matches!(field.name(), "resourceVersion" | "selfLink")));
        match field.card() {
            Card::One => single(out, field, value, depth)?,
            Card::List => list(out, field, value, depth)?,
            Card::Map => map(out, field, value, depth)?,
            Card::MapOfLists => {}
        }
    }
    Ok(())
}

fn inline(out: &mut Out, field: &Field, tree: &Map<String, Value>, depth: usize) -> Result<()> {
    let Some(inner) = field.struct_type() else { return Ok(()) };
    let start = out.len();
    message(out, inner, tree, depth + 1)?;
    if !field.is_pointer() || out.len() > start {
        out.message_field(field.number(), start);
    }
    Ok(())
}

fn single(out: &mut Out, field: &Field, value: Option<&Value>, depth: usize) -> Result<()> {
    static NULL: Value = Value::Null;
    match value {
        Some(value) => field_value(out, field.name(), field.number(), field.elem(), value, depth),
        // Go's nil for these; everything else held by value is written.
        None if field.is_pointer() || matches!(field.elem(), Elem::Bytes | Elem::StringList | Elem::Any) => Ok(()),
        None => field_value(out, field.name(), field.number(), field.elem(), &NULL, depth),
    }
}

fn list(out: &mut Out, field: &Field, value: Option<&Value>, depth: usize) -> Result<()> {
    match value {
        None => Ok(()),
        Some(Value::Array(items)) => items
            .iter()
            .rev()
            .try_for_each(|item| field_value(out, field.name(), field.number(), field.elem(), item, depth)),
        Some(_) => Err(Error::value(field.name(), "expected a list")),
    }
}

fn map(out: &mut Out, field: &Field, value: Option<&Value>, depth: usize) -> Result<()> {
    let entries = match value {
        None => return Ok(()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(Error::value(field.name(), "expected a map")),
    };
    let mut sorted: Vec<(&String, &Value)> = entries.iter().collect();
    sorted.sort_unstable_by(|a, b| b.0.cmp(a.0));
    for (key, value) in sorted {
        let start = out.len();
        if !(value.is_null() && field.elem() == Elem::Bytes) {
            field_value(out, field.name(), 2, field.elem(), value, depth)?;
        }
        out.bytes_field(1, key.as_bytes());
        out.message_field(field.number(), start);
    }
    Ok(())
}

/// Writes one value with its tag; null is the zero value.
pub(super) fn field_value(
    out: &mut Out,
    name: &str,
    number: u32,
    elem: Elem,
    value: &Value,
    depth: usize,
) -> Result<()> {
    match elem {
        Elem::Bool | Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64 => {
            out.varint_field(number, integer(name, elem, value)?);
            return Ok(());
        }
        Elem::F64 => {
            let float = match value {
                Value::Null => 0.0,
                value => value.as_f64().ok_or_else(|| Error::value(name, "expected a number"))?,
            };
            out.bytes(&float.to_bits().to_le_bytes());
            out.tag(number, wire::FIXED64);
            return Ok(());
        }
        Elem::String => {
            out.bytes_field(number, text(name, value)?.as_bytes());
            return Ok(());
        }
        _ => {}
    }
    let start = out.len();
    content(out, name, elem, value, depth)?;
    out.message_field(number, start);
    Ok(())
}

/// The content of a length-delimited value.
fn content(out: &mut Out, name: &str, elem: Elem, value: &Value, depth: usize) -> Result<()> {
    match elem {
        Elem::Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text(name, value)?)
                .map_err(|e| Error::value(name, format!("illegal base64 data: {e}")))?;
            out.bytes(&bytes);
        }
        Elem::Time | Elem::MicroTime => {
            let micro = elem == Elem::MicroTime;
            if !value.is_null() {
                write_time(out, parse_time(text(name, value)?, micro).map_err(|e| Error::value(name, e.to_string()))?);
            }
        }
        Elem::Duration => {
            let nanos = match value {
                Value::Null => 0,
                value => parse_duration(text(name, value)?)?,
            };
            out.varint_field(1, nanos as u64);
        }
        Elem::Quantity => {
            let quantity = match value {
                Value::Null => "0".to_owned(),
                Value::Number(number) => canonical_quantity(&number.to_string())?,
                value => canonical_quantity(text(name, value)?).map_err(|e| Error::value(name, e.to_string()))?,
            };
            out.bytes_field(1, quantity.as_bytes());
        }
        Elem::IntOrString => int_or_string(out, name, value)?,
        Elem::Raw | Elem::FieldsV1 | Elem::Json => {
            if !value.is_null() {
                let json = serde_json::to_vec(value).map_err(|e| Error::value(name, e.to_string()))?;
                out.bytes_field(1, &json);
            }
        }
        Elem::StringList => {
            let items = match value {
                Value::Null => &Vec::new(),
                value => value.as_array().ok_or_else(|| Error::value(name, "expected a list"))?,
            };
            for item in items.iter().rev() {
                out.bytes_field(1, text(name, item)?.as_bytes());
            }
        }
        Elem::Struct(id) => match value {
            Value::Object(tree) => message(out, TypeRef(id), tree, depth + 1)?,
            Value::Null => message(out, TypeRef(id), &Map::new(), depth + 1)?,
            _ => return Err(Error::value(name, "expected an object")),
        },
        Elem::PropsOrArray(_) | Elem::PropsOrBool(_) | Elem::PropsOrStrings(_) => {
            props::write(out, name, elem, value, depth + 1)?;
        }
        _ => return Err(Error::value(name, "has no wire form")),
    }
    Ok(())
}

fn int_or_string(out: &mut Out, name: &str, value: &Value) -> Result<()> {
    let (kind, int, string) = match value {
        Value::Null => (0, 0, ""),
        Value::String(string) => (1, 0, string.as_str()),
        value => (0, integer(name, Elem::I32, value)?, ""),
    };
    out.bytes_field(3, string.as_bytes());
    out.varint_field(2, int);
    out.varint_field(1, kind);
    Ok(())
}

fn integer(name: &str, elem: Elem, value: &Value) -> Result<u64> {
    let wrong = || Error::value(name, format!("cannot hold {value}"));
    Ok(match (elem, value) {
        (_, Value::Null) => 0,
        (Elem::Bool, value) => u64::from(value.as_bool().ok_or_else(wrong)?),
        (Elem::I32, value) => {
            let int = value.as_i64().and_then(|i| i32::try_from(i).ok()).ok_or_else(wrong)?;
            i64::from(int) as u64
        }
        (Elem::U32, value) => u64::from(value.as_u64().and_then(|i| u32::try_from(i).ok()).ok_or_else(wrong)?),
        (Elem::U64, value) => value.as_u64().ok_or_else(wrong)?,
        (_, value) => value.as_i64().ok_or_else(wrong)? as u64,
    })
}

fn text<'v>(name: &str, value: &'v Value) -> Result<&'v str> {
    match value {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        _ => Err(Error::value(name, "expected a string")),
    }
}
