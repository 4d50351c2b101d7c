//! One serde deserializer for typed forms: straight from protobuf bytes, or from a tree.
//!
//! It is a single type, with a single type of map and one of sequence, so that each typed struct's `Deserialize` is compiled
//! once whatever it is read from.

mod access;

use serde::de::{self, Visitor};
use serde_json::{Map, Value};

use self::access::{Fields, Items};
use crate::codec::{Error, Occurrences, Result, open_envelope, read_value, scalar_text, wire};
use crate::table::{Elem, TypeRef};

/// What went wrong while a typed form was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeError {
    /// Malformed bytes.
    #[error("decode protobuf")]
    Codec(#[from] Error),
    /// The typed form refused a value.
    #[error("{0}")]
    Custom(String),
}

impl de::Error for DeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

type De<T> = std::result::Result<T, DeError>;

/// Reads typed forms; make one with [`Deserializer::from_protobuf`] or [`Deserializer::from_tree`].
pub struct Deserializer<'de>(Input<'de>);

enum Input<'de> {
    Message {
        t: TypeRef,
        bytes: &'de [u8],
        head: Head<'de>,
        depth: usize,
    },
    One {
        elem: Elem,
        raw: wire::Raw<'de>,
        head: Head<'de>,
        depth: usize,
    },
    List {
        elem: Elem,
        items: Occurrences<'de>,
        depth: usize,
    },
    Map {
        elem: Elem,
        entries: Occurrences<'de>,
        depth: usize,
    },
    Tree(&'de Value, Option<TypeRef>),
    /// What no borrowed view can show: a value inside of other encodings.
    Owned(Value),
    Root(&'de Map<String, Value>, Option<TypeRef>),
    Text(&'de str),
    ZeroTime,
    Version(u64),
}

/// What stands outside the object's own bytes.
#[derive(Clone, Copy, Default)]
struct Head<'de> {
    api_version: &'de str,
    kind: &'de str,
    /// 0 leaves what is stored.
    resource_version: u64,
    /// Whether `metadata.managedFields` is passed over.
    bare: bool,
}

impl<'de> Deserializer<'de> {
    /// Reads an enveloped object; `resource_version` is put in unless it is 0.
    ///
    /// # Errors
    /// No envelope, or an unknown kind.
    pub fn from_protobuf(bytes: &'de [u8], resource_version: u64) -> Result<Self> {
        let envelope = open_envelope(bytes)?;
        let t = envelope.type_ref()?;
        let head = Head { api_version: envelope.api_version, kind: envelope.kind, resource_version, bare: false };
        Ok(Self(Input::Message { t, bytes: envelope.raw, head, depth: 0 }))
    }

    /// Reads a bare message, such as an item of a list; `resource_version` is put in unless it is 0.
    pub fn from_message(t: TypeRef, bytes: &'de [u8], resource_version: u64) -> Self {
        Self(Input::Message { t, bytes, head: Head { resource_version, ..Head::default() }, depth: 0 })
    }

    /// Leaves `metadata.managedFields` out of an object read from protobuf: half of a small object, and costly to read.
    #[must_use]
    pub fn without_managed_fields(mut self) -> Self {
        if let Input::Message { head, .. } = &mut self.0 {
            head.bare = true;
        }
        self
    }

    /// Reads a tree. With its struct given, a null where Go holds a time by value is the zero time; typed forms often
    /// refuse null there.
    pub fn from_tree(tree: &'de Map<String, Value>, t: Option<TypeRef>) -> Self {
        Self(Input::Root(tree, t))
    }
}

impl<'de> de::Deserializer<'de> for Deserializer<'de> {
    type Error = DeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> De<V::Value> {
        match self.0 {
            Input::Message { t, bytes, head, depth } => visitor.visit_map(Fields::message(t, bytes, head, depth)?),
            Input::One { elem, raw, head, depth } => visit_one(visitor, elem, raw, head, depth),
            Input::List { elem, items, depth } => visitor.visit_seq(Items::occurrences(elem, items, depth)),
            Input::Map { elem, entries, depth } => visitor.visit_map(Fields::entries(elem, entries, depth)),
            Input::Tree(value, t) => visit_tree(visitor, value, t),
            Input::Owned(value) => visit_owned(visitor, value),
            Input::Root(map, t) => visitor.visit_map(Fields::tree(map, t)),
            Input::Text(text) => visitor.visit_borrowed_str(text),
            Input::Version(version) => visitor.visit_string(version.to_string()),
            Input::ZeroTime => visitor.visit_borrowed_str("0001-01-01T00:00:00Z"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> De<V::Value> {
        match self.0 {
            Input::Tree(Value::Null, _) | Input::Owned(Value::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> De<V::Value> {
        match (name, &self.0) {
            ("Time" | "MicroTime", Input::Tree(Value::Null, _)) => visitor.visit_newtype_struct(Self(Input::ZeroTime)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> De<V::Value> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier
    }
}

fn visit_one<'de, V: Visitor<'de>>(
    visitor: V,
    elem: Elem,
    raw: wire::Raw<'de>,
    head: Head<'de>,
    depth: usize,
) -> De<V::Value> {
    match elem {
        Elem::Struct(id) => visitor.visit_map(Fields::message(TypeRef(id), raw.bytes, head, depth + 1)?),
        Elem::String => match std::str::from_utf8(raw.bytes) {
            Ok(text) => visitor.visit_borrowed_str(text),
            Err(_) => visitor.visit_string(String::from_utf8_lossy(raw.bytes).into_owned()),
        },
        Elem::Bool => visitor.visit_bool(raw.int != 0),
        Elem::I32 => visitor.visit_i64(i64::from(raw.int as i32)),
        Elem::I64 => visitor.visit_i64(raw.int as i64),
        Elem::U32 | Elem::U64 => visitor.visit_u64(raw.int),
        Elem::F64 => visitor.visit_f64(f64::from_bits(raw.int)),
        Elem::Time | Elem::MicroTime | Elem::Duration | Elem::Quantity => match scalar_text(elem, raw.bytes)? {
            Some(text) => visitor.visit_string(text),
            None => visitor.visit_borrowed_str("0001-01-01T00:00:00Z"),
        },
        // The rest is rare: by way of a tree.
        _ => visit_owned(visitor, read_value(elem, raw, depth)?),
    }
}

fn visit_tree<'de, V: Visitor<'de>>(visitor: V, value: &'de Value, t: Option<TypeRef>) -> De<V::Value> {
    match value {
        Value::Null => visitor.visit_unit(),
        Value::Bool(value) => visitor.visit_bool(*value),
        Value::Number(number) => visit_number(visitor, number),
        Value::String(text) => visitor.visit_borrowed_str(text),
        Value::Array(items) => visitor.visit_seq(Items::tree(items, t)),
        Value::Object(map) => visitor.visit_map(Fields::tree(map, t)),
    }
}

fn visit_number<'de, V: Visitor<'de>>(visitor: V, number: &serde_json::Number) -> De<V::Value> {
    if let Some(int) = number.as_i64() {
        visitor.visit_i64(int)
    } else if let Some(int) = number.as_u64() {
        visitor.visit_u64(int)
    } else {
        visitor.visit_f64(number.as_f64().unwrap_or_default())
    }
}

fn visit_owned<'de, V: Visitor<'de>>(visitor: V, value: Value) -> De<V::Value> {
    match value {
        Value::Null => visitor.visit_unit(),
        Value::Bool(value) => visitor.visit_bool(value),
        Value::Number(number) => visit_number(visitor, &number),
        Value::String(text) => visitor.visit_string(text),
        Value::Array(items) => visitor.visit_seq(Items::owned(items)),
        Value::Object(map) => visitor.visit_map(Fields::owned(map)),
    }
}
