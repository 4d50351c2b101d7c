//! Maps and sequences of a [`super::Deserializer`]: of messages, of trees, and of what has to be read apart.

use serde::de::{DeserializeSeed, MapAccess, SeqAccess};
use serde_json::{Map, Value};

use super::{De, DeError, Deserializer, Head, Input};
use crate::codec::{Error, MAX_DEPTH, MessageIndex, Occurrences, map_entry, omitted, wire};
use crate::table::{Card, Elem, Field, TypeRef};

/// The entries of anything that serde takes for a map.
pub(super) enum Fields<'de> {
    Message(MessageAccess<'de>),
    Entries(EntryAccess<'de>),
    Tree(TreeAccess<'de>),
    Owned(serde_json::map::IntoIter, Option<Value>),
}

impl<'de> Fields<'de> {
    pub(super) fn message(t: TypeRef, bytes: &'de [u8], head: Head<'de>, depth: usize) -> De<Self> {
        Ok(Self::Message(MessageAccess::new(t, bytes, head, depth)?))
    }

    pub(super) fn entries(elem: Elem, entries: Occurrences<'de>, depth: usize) -> Self {
        Self::Entries(EntryAccess { elem, entries, depth, value: None })
    }

    pub(super) fn tree(map: &'de Map<String, Value>, t: Option<TypeRef>) -> Self {
        Self::Tree(TreeAccess { entries: map.iter(), t, value: None })
    }

    pub(super) fn owned(map: Map<String, Value>) -> Self {
        Self::Owned(map.into_iter(), None)
    }

    /// The next key; its value is kept for [`Fields::value`].
    fn key(&mut self) -> De<Option<Input<'de>>> {
        Ok(match self {
            Self::Message(message) => message.key()?.map(Input::Text),
            Self::Entries(entries) => entries.key()?.map(Input::Text),
            Self::Tree(tree) => tree.key().map(Input::Text),
            Self::Owned(entries, kept) => entries.next().map(|(key, value)| {
                *kept = Some(value);
                Input::Owned(Value::String(key))
            }),
        })
    }

    fn value(&mut self) -> De<Input<'de>> {
        let value = match self {
            Self::Message(message) => message.value.take(),
            Self::Entries(entries) => entries.value(),
            Self::Tree(tree) => tree.value.take(),
            Self::Owned(_, kept) => kept.take().map(Input::Owned),
        };
        value.ok_or_else(|| DeError::Custom("value before key".to_owned()))
    }
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = DeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> De<Option<K::Value>> {
        self.key()?.map(|key| seed.deserialize(Deserializer(key))).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> De<S::Value> {
        seed.deserialize(Deserializer(self.value()?))
    }
}

/// The items of anything that serde takes for a sequence.
pub(super) enum Items<'de> {
    Occurrences(ListAccess<'de>),
    Tree(std::slice::Iter<'de, Value>, Option<TypeRef>),
    Owned(std::vec::IntoIter<Value>),
}

impl<'de> Items<'de> {
    pub(super) fn occurrences(elem: Elem, items: Occurrences<'de>, depth: usize) -> Self {
        Self::Occurrences(ListAccess { elem, items, depth, packed: None })
    }

    pub(super) fn tree(items: &'de [Value], t: Option<TypeRef>) -> Self {
        Self::Tree(items.iter(), t)
    }

    pub(super) fn owned(items: Vec<Value>) -> Self {
        Self::Owned(items.into_iter())
    }

    fn item(&mut self) -> De<Option<Input<'de>>> {
        Ok(match self {
            Self::Occurrences(list) => list.item()?,
            Self::Tree(items, t) => items.next().map(|value| Input::Tree(value, *t)),
            Self::Owned(items) => items.next().map(Input::Owned),
        })
    }
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DeError;

    /// Exact but for packed numbers: a list that grows while it is read ends up to twice as large as it must be.
    fn size_hint(&self) -> Option<usize> {
        Some(match self {
            Self::Occurrences(list) => list.len(),
            Self::Tree(items, _) => items.len(),
            Self::Owned(items) => items.len(),
        })
    }

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> De<Option<T::Value>> {
        self.item()?.map(|item| seed.deserialize(Deserializer(item))).transpose()
    }
}

/// A message's fields; inlined messages are walked on a stack.
pub(super) struct MessageAccess<'de> {
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

impl<'de> MessageAccess<'de> {
    fn key(&mut self) -> De<Option<&'de str>> {
        Ok(match self.step {
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
        })
    }
}

pub(super) struct ListAccess<'de> {
    elem: Elem,
    items: Occurrences<'de>,
    depth: usize,
    packed: Option<wire::Reader<'de>>,
}

impl<'de> ListAccess<'de> {
    fn len(&self) -> usize {
        let (mut items, mut count) = (self.items, 0);
        while let Ok(Some(_)) = items.next() {
            count += 1;
        }
        count
    }

    fn item(&mut self) -> De<Option<Input<'de>>> {
        let (elem, depth) = (self.elem, self.depth);
        loop {
            if let Some(reader) = &mut self.packed {
                if !reader.is_empty() {
                    let int = reader.varint()?;
                    let raw = wire::Raw { number: 0, wire: wire::VARINT, int, bytes: &[] };
                    return Ok(Some(Input::One { elem, raw, head: Head::default(), depth }));
                }
                self.packed = None;
            }
            let Some(raw) = self.items.next()? else { return Ok(None) };
            if raw.wire == wire::BYTES && matches!(elem, Elem::Bool | Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64) {
                self.packed = Some(wire::Reader::new(raw.bytes));
                continue;
            }
            return Ok(Some(Input::One { elem, raw, head: Head::default(), depth }));
        }
    }
}

pub(super) struct EntryAccess<'de> {
    elem: Elem,
    entries: Occurrences<'de>,
    depth: usize,
    value: Option<wire::Raw<'de>>,
}

impl<'de> EntryAccess<'de> {
    fn key(&mut self) -> De<Option<&'de str>> {
        let Some(raw) = self.entries.next()? else { return Ok(None) };
        let (key, value) = map_entry(self.elem, raw.bytes)?;
        self.value = Some(value);
        Ok(Some(std::str::from_utf8(key).map_err(|_| Error::Wire("invalid UTF-8 in map key"))?))
    }

    fn value(&mut self) -> Option<Input<'de>> {
        let raw = self.value.take()?;
        Some(Input::One { elem: self.elem, raw, head: Head::default(), depth: self.depth })
    }
}

pub(super) struct TreeAccess<'de> {
    entries: serde_json::map::Iter<'de>,
    t: Option<TypeRef>,
    value: Option<Input<'de>>,
}

impl<'de> TreeAccess<'de> {
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

    fn key(&mut self) -> Option<&'de str> {
        let (key, value) = self.entries.next()?;
        self.value = Some(self.input(key, value));
        Some(key)
    }
}
