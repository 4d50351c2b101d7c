//! One serde deserializer for typed forms: straight from protobuf bytes, or from a tree.
//!
//! It is a single type, so that each typed struct's `Deserialize` is compiled once whatever it is read from.

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::codec::{
    Error, MAX_DEPTH, MessageIndex, Occurrences, Result, map_entry, omitted, open_envelope, read_value, scalar_text,
    wire,
};
use crate::table::{Card, Elem, Field, TypeRef};

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
#[derive(Clone, Copy)]
pub struct Deserializer<'de>(Input<'de>);

#[derive(Clone, Copy)]
enum Input<'de> {
    Message { t: TypeRef, bytes: &'de [u8], head: Head<'de>, depth: usize },
    One { elem: Elem, raw: wire::Raw<'de>, head: Head<'de>, depth: usize },
    List { elem: Elem, items: Occurrences<'de>, depth: usize },
    Map { elem: Elem, entries: Occurrences<'de>, depth: usize },
    Tree(&'de Value, Option<TypeRef>),
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
            Input::Message { t, bytes, head, depth } => visitor.visit_map(MessageAccess::new(t, bytes, head, depth)?),
            Input::One { elem, raw, head, depth } => visit_one(visitor, elem, raw, head, depth),
            Input::List { elem, items, depth } => visitor.visit_seq(ListAccess { elem, items, depth, packed: None }),
            Input::Map { elem, entries, depth } => visitor.visit_map(EntryAccess { elem, entries, depth, value: None }),
            Input::Tree(value, t) => visit_tree(visitor, value, t),
            Input::Root(map, t) => visitor.visit_map(TreeAccess::new(map, t)),
            Input::Text(text) => visitor.visit_borrowed_str(text),
            Input::Version(version) => visitor.visit_string(version.to_string()),
            Input::ZeroTime => visitor.visit_borrowed_str("0001-01-01T00:00:00Z"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> De<V::Value> {
        match self.0 {
            Input::Tree(Value::Null, _) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> De<V::Value> {
        match (name, self.0) {
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
        Elem::Struct(id) => visitor.visit_map(MessageAccess::new(TypeRef(id), raw.bytes, head, depth + 1)?),
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
        Value::Array(items) => visitor.visit_seq(TreeItems { items: items.iter(), t }),
        Value::Object(map) => visitor.visit_map(TreeAccess::new(map, t)),
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
    de::Deserializer::deserialize_any(value, visitor).map_err(|e: serde_json::Error| DeError::Custom(e.to_string()))
}

/// A message's fields; inlined messages are walked on a stack.
struct MessageAccess<'de> {
    levels: Vec<Level<'de>>,
    head: Head<'de>,
    /// 0: `apiVersion` comes next; 1: `kind`; 2: fields.
    step: u8,
    value: Option<Input<'de>>,
}

struct Level<'de> {
    t: TypeRef,
    bytes: &'de [u8],
    index: MessageIndex,
    at: usize,
    depth: usize,
}

impl<'de> MessageAccess<'de> {
    fn new(t: TypeRef, bytes: &'de [u8], head: Head<'de>, depth: usize) -> De<Self> {
        let step = if head.kind.is_empty() { 2 } else { 0 };
        let mut access = Self { levels: Vec::with_capacity(1), head, step, value: None };
        access.push(t, bytes, depth)?;
        Ok(access)
    }

    fn push(&mut self, t: TypeRef, bytes: &'de [u8], depth: usize) -> De<()> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep.into());
        }
        let index = MessageIndex::new(t.fields(), bytes)?;
        self.levels.push(Level { t, bytes, index, at: 0, depth });
        Ok(())
    }

    /// The next field that has a value.
    fn advance(&mut self) -> De<Option<&'static str>> {
        while let Some(level) = self.levels.last_mut() {
            let fields = level.t.fields();
            let Some(field) = fields.get(level.at) else {
                self.levels.pop();
                continue;
            };
            let at = level.at;
            level.at += 1;
            let depth = level.depth;
            if field.is_inline() {
                let content = level.index.last(at, level.bytes)?.map(|r| r.bytes);
                if let (Some(inner), Some(content)) = (field.struct_type(), content) {
                    self.push(inner, content, depth + 1)?;
                }
                continue;
            }
            let own = level.t == TypeRef::OBJECT_META && depth == 1;
            if own && field.name() == "resourceVersion" && self.head.resource_version != 0 {
                self.value = Some(Input::Version(self.head.resource_version));
                return Ok(Some(field.name()));
            }
            if own && self.head.bare && field.name() == "managedFields" {
                continue;
            }
            if let Some(input) = field_input(level, at, field, self.head)? {
                self.value = Some(input);
                return Ok(Some(field.name()));
            }
        }
        Ok(None)
    }
}

fn field_input<'de>(level: &Level<'de>, at: usize, field: &Field, head: Head<'de>) -> De<Option<Input<'de>>> {
    let depth = level.depth;
    if !level.index.has(at) {
        let zero = field.is_required() && !field.is_pointer() && matches!(field.elem(), Elem::Time | Elem::MicroTime);
        return Ok((zero && field.card() == Card::One).then_some(Input::ZeroTime));
    }
    let occurrences = level.index.occurrences(at, field, level.bytes);
    Ok(match field.card() {
        Card::List => Some(Input::List { elem: field.elem(), items: occurrences, depth }),
        Card::Map => Some(Input::Map { elem: field.elem(), entries: occurrences, depth }),
        Card::MapOfLists => None,
        Card::One => {
            let Some(raw) = level.index.last(at, level.bytes)? else { return Ok(None) };
            if level.index.repeated(at) && field.struct_type().is_some() {
                // Only foreign writers split a message; a borrowed view cannot join it.
                return Err(Error::Wire("message split over several fields").into());
            }
            if !field.is_pointer() && omitted(field, &raw)? {
                return Ok(None);
            }
            let time = matches!(field.elem(), Elem::Time | Elem::MicroTime);
            if time && raw.bytes.is_empty() && !field.is_required() {
                return Ok(None);
            }
            let empty = matches!(field.elem(), Elem::Raw | Elem::Json | Elem::FieldsV1) && raw.bytes.is_empty();
            let inner = Head { api_version: "", kind: "", ..head };
            (!empty).then_some(Input::One { elem: field.elem(), raw, head: inner, depth })
        }
    })
}

impl<'de> MapAccess<'de> for MessageAccess<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> De<Option<K::Value>> {
        let key = match self.step {
            0 => {
                self.value = Some(Input::Text(self.head.api_version));
                self.step = 1;
                Some("apiVersion")
            }
            1 => {
                self.value = Some(Input::Text(self.head.kind));
                self.step = 2;
                Some("kind")
            }
            _ => self.advance()?,
        };
        key.map(|key| seed.deserialize(Deserializer(Input::Text(key)))).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> De<S::Value> {
        let input = self.value.take().ok_or_else(|| DeError::Custom("value before key".to_owned()))?;
        seed.deserialize(Deserializer(input))
    }
}

struct ListAccess<'de> {
    elem: Elem,
    items: Occurrences<'de>,
    depth: usize,
    packed: Option<wire::Reader<'de>>,
}

impl<'de> SeqAccess<'de> for ListAccess<'de> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> De<Option<T::Value>> {
        let (elem, depth) = (self.elem, self.depth);
        loop {
            if let Some(reader) = &mut self.packed {
                if !reader.is_empty() {
                    let int = reader.varint()?;
                    let raw = wire::Raw { number: 0, wire: wire::VARINT, int, bytes: &[] };
                    let input = Input::One { elem, raw, head: Head::default(), depth };
                    return seed.deserialize(Deserializer(input)).map(Some);
                }
                self.packed = None;
            }
            let Some(raw) = self.items.next()? else { return Ok(None) };
            if raw.wire == wire::BYTES && matches!(elem, Elem::Bool | Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64) {
                self.packed = Some(wire::Reader::new(raw.bytes));
                continue;
            }
            let input = Input::One { elem, raw, head: Head::default(), depth };
            return seed.deserialize(Deserializer(input)).map(Some);
        }
    }
}

struct EntryAccess<'de> {
    elem: Elem,
    entries: Occurrences<'de>,
    depth: usize,
    value: Option<wire::Raw<'de>>,
}

impl<'de> MapAccess<'de> for EntryAccess<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> De<Option<K::Value>> {
        let Some(raw) = self.entries.next()? else { return Ok(None) };
        let (key, value) = map_entry(self.elem, raw.bytes)?;
        self.value = Some(value);
        let key = std::str::from_utf8(key).map_err(|_| Error::Wire("invalid UTF-8 in map key"))?;
        seed.deserialize(Deserializer(Input::Text(key))).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> De<S::Value> {
        let raw = self.value.take().ok_or_else(|| DeError::Custom("value before key".to_owned()))?;
        seed.deserialize(Deserializer(Input::One { elem: self.elem, raw, head: Head::default(), depth: self.depth }))
    }
}

struct TreeItems<'de> {
    items: std::slice::Iter<'de, Value>,
    t: Option<TypeRef>,
}

impl<'de> SeqAccess<'de> for TreeItems<'de> {
    type Error = DeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> De<Option<T::Value>> {
        self.items.next().map(|v| seed.deserialize(Deserializer(Input::Tree(v, self.t)))).transpose()
    }
}

struct TreeAccess<'de> {
    entries: serde_json::map::Iter<'de>,
    t: Option<TypeRef>,
    value: Option<Input<'de>>,
}

impl<'de> TreeAccess<'de> {
    fn new(map: &'de Map<String, Value>, t: Option<TypeRef>) -> Self {
        Self { entries: map.iter(), t, value: None }
    }

    fn input(&self, key: &str, value: &'de Value) -> Input<'de> {
        // Scalars need no type.
        let Some(t) = self.t.filter(|_| value.is_null() || value.is_object() || value.is_array()) else {
            return Input::Tree(value, None);
        };
        let Some(field) = t.field(key) else { return Input::Tree(value, None) };
        let time = matches!(field.elem(), Elem::Time | Elem::MicroTime);
        if value.is_null() && time && field.is_required() && !field.is_pointer() && field.card() == Card::One {
            return Input::ZeroTime;
        }
        // A map's keys are no fields.
        Input::Tree(value, field.struct_type().filter(|_| field.card() != Card::Map))
    }
}

impl<'de> MapAccess<'de> for TreeAccess<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> De<Option<K::Value>> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(self.input(key, value));
        seed.deserialize(Deserializer(Input::Text(key))).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> De<S::Value> {
        let input = self.value.take().ok_or_else(|| DeError::Custom("value before key".to_owned()))?;
        seed.deserialize(Deserializer(input))
    }
}
