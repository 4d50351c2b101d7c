//! One walk over protobuf bytes by the table, into JSON text or a tree.
//!
//! The output is what upstream's decode into Go structs and encode to JSON gives: fields in Go's order, zero values
//! where Go has no `omitempty`, zero values left out where it has.

use base64::Engine;
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::scalars::{
    TimeText, canonical_quantity, format_duration, is_canonical, micro_time_text, read_time, time_text,
};
use super::sink::{JsonSink, Sink, TreeSink};
use super::wire::{self, Raw, Reader};
use super::{Error, MAX_DEPTH, Result, envelope, props};
use crate::table::{Card, Elem, Field, TypeRef};

/// Fields of most messages: an index of so many lives on the stack.
const USUAL_FIELDS: usize = 24;

const ABSENT: u32 = u32::MAX;

/// Where each field of a message begins: first and last occurrence, by place in [`TypeRef::fields`].
pub(crate) struct MessageIndex {
    spans: SmallVec<[(u32, u32); USUAL_FIELDS]>,
}

impl MessageIndex {
    /// Scans one level of a message.
    pub fn new(fields: &[Field], bytes: &[u8]) -> Result<Self> {
        let known = fields.len();
        let mut spans: SmallVec<[(u32, u32); USUAL_FIELDS]> = SmallVec::from_elem((ABSENT, ABSENT), known);
        let mut reader = Reader::new(bytes);
        let mut hint = 0;
        loop {
            let start = reader.pos();
            let Some(raw) = reader.next()? else { break };
            // Gogo writes ascending numbers, and structs mostly ascend too: the next field is near.
            let found = (hint..known).chain(0..hint).find(|&at| fields[at].number() == raw.number);
            let Some(at) = found else { continue };
            hint = at;
            let start = u32::try_from(start).map_err(|_| Error::Wire("message too large"))?;
            if spans[at].0 == ABSENT {
                spans[at].0 = start;
            }
            spans[at].1 = start;
        }
        Ok(Self { spans })
    }

    /// The occurrences of the field at a place.
    pub fn occurrences<'a>(&self, at: usize, field: &Field, bytes: &'a [u8]) -> Occurrences<'a> {
        let (first, last) = self.spans.get(at).copied().unwrap_or((ABSENT, ABSENT));
        let reader = Reader::at(bytes, if first == ABSENT { bytes.len() } else { first as usize });
        Occurrences { reader, last: if first == ABSENT { 0 } else { last as usize }, number: field.number() }
    }

    /// Whether the field is there at all.
    pub fn has(&self, at: usize) -> bool {
        self.spans.get(at).is_some_and(|s| s.0 != ABSENT)
    }

    /// The last occurrence of a single field, as protobuf wants.
    pub fn last<'a>(&self, at: usize, bytes: &'a [u8]) -> Result<Option<Raw<'a>>> {
        match self.spans.get(at) {
            Some(&(first, last)) if first != ABSENT => Reader::at(bytes, last as usize).next(),
            _ => Ok(None),
        }
    }

    /// Whether a single field stands there more than once.
    pub fn repeated(&self, at: usize) -> bool {
        self.spans.get(at).is_some_and(|s| s.0 != s.1)
    }
}

/// Iterates over the occurrences of one field, skipping others in between.
#[derive(Clone, Copy)]
pub(crate) struct Occurrences<'a> {
    reader: Reader<'a>,
    last: usize,
    number: u32,
}

impl<'a> Occurrences<'a> {
    pub fn next(&mut self) -> Result<Option<Raw<'a>>> {
        while self.reader.pos() <= self.last {
            match self.reader.next()? {
                Some(raw) if raw.number == self.number => return Ok(Some(raw)),
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }
}

/// Writes an enveloped object as JSON text, with `resourceVersion` put in unless it is 0.
///
/// # Errors
/// No envelope, an unknown kind, or malformed bytes; `out` may then hold a part.
pub fn protobuf_to_json(bytes: &[u8], resource_version: u64, out: &mut Vec<u8>) -> Result<()> {
    let envelope = envelope::open_envelope(bytes)?;
    let version = version_text(resource_version);
    let mut walk = Walk { sink: JsonSink { out }, resource_version: &version };
    let kind = envelope.type_ref()?;
    walk.object(kind, envelope.raw, Some((envelope.api_version, envelope.kind)))
}

/// Writes a bare message (such as a list's item) as JSON text.
///
/// # Errors
/// Malformed bytes.
pub fn message_to_json(t: TypeRef, bytes: &[u8], resource_version: u64, out: &mut Vec<u8>) -> Result<()> {
    let version = version_text(resource_version);
    Walk { sink: JsonSink { out }, resource_version: &version }.object(t, bytes, None)
}

/// One value as a tree.
pub(crate) fn read_value(elem: Elem, raw: Raw<'_>, depth: usize) -> Result<Value> {
    let mut walk = Walk { sink: TreeSink::default(), resource_version: "" };
    walk.value(elem, raw, depth)?;
    Ok(walk.sink.finish())
}

/// The text of a scalar with a form of its own; `None` for the zero time.
pub(crate) fn scalar_text(elem: Elem, bytes: &[u8]) -> Result<Option<String>> {
    Ok(Some(match elem {
        Elem::Time => match read_time(bytes)? {
            Some((seconds, _)) => time_text(seconds),
            None => return Ok(None),
        },
        Elem::MicroTime => match read_time(bytes)? {
            Some((seconds, nanos)) => micro_time_text(seconds, nanos),
            None => return Ok(None),
        },
        Elem::Duration => format_duration(first_int(bytes)? as i64),
        Elem::Quantity => quantity(bytes)?,
        Elem::IntOrString => match int_or_string(bytes)? {
            Ok(int) => int.to_string(),
            Err(text) => text,
        },
        _ => return Err(Error::Wire("no text form")),
    }))
}

/// The text of a resource version; 0 is none.
pub(super) fn version_text(resource_version: u64) -> String {
    if resource_version == 0 { String::new() } else { resource_version.to_string() }
}

/// Turns a bare message into a tree.
///
/// # Errors
/// Malformed bytes.
pub fn message_to_value(t: TypeRef, bytes: &[u8]) -> Result<Map<String, Value>> {
    let mut walk = Walk { sink: TreeSink::default(), resource_version: "" };
    walk.object(t, bytes, None)?;
    match walk.sink.finish() {
        Value::Object(map) => Ok(map),
        _ => Err(Error::Wire("message gave no object")),
    }
}

pub(super) struct Walk<'a, S> {
    pub(super) sink: S,
    resource_version: &'a str,
}

impl<S: Sink> Walk<'_, S> {
    fn object(&mut self, t: TypeRef, bytes: &[u8], type_meta: Option<(&str, &str)>) -> Result<()> {
        self.sink.begin_object();
        if let Some((api_version, kind)) = type_meta {
            // Go's TypeMeta has kind before apiVersion.
            self.sink.key("kind");
            self.sink.string(kind);
            self.sink.key("apiVersion");
            self.sink.string(api_version);
        }
        self.fields(t, bytes, 0)?;
        self.sink.end_object();
        Ok(())
    }

    pub(super) fn message(&mut self, t: TypeRef, bytes: &[u8], depth: usize) -> Result<()> {
        self.sink.begin_object();
        self.fields(t, bytes, depth)?;
        self.sink.end_object();
        Ok(())
    }

    fn fields(&mut self, t: TypeRef, bytes: &[u8], depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        let fields = t.fields();
        let index = MessageIndex::new(fields, bytes)?;
        let stamp = !self.resource_version.is_empty() && depth == 1 && t == TypeRef::OBJECT_META;
        for (at, field) in fields.iter().enumerate() {
            if stamp && field.name() == "resourceVersion" {
                self.sink.field(field.name());
                self.sink.string(self.resource_version);
                continue;
            }
            self.field(field, at, &index, bytes, depth)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, at: usize, index: &MessageIndex, bytes: &[u8], depth: usize) -> Result<()> {
        match field.card() {
            Card::One => self.single(field, at, index, bytes, depth),
            Card::List if !index.has(at) => self.absent(field),
            Card::List => {
                self.sink.field(field.name());
                self.sink.begin_array();
                let mut items = index.occurrences(at, field, bytes);
                while let Some(raw) = items.next()? {
                    self.list_item(field.elem(), raw, depth)?;
                }
                self.sink.end_array();
                Ok(())
            }
            Card::Map if !index.has(at) => self.absent(field),
            Card::Map => self.map(field, index.occurrences(at, field, bytes), depth),
            Card::MapOfLists => self.absent(field),
        }
    }

    /// What Go prints for nil.
    fn absent(&mut self, field: &Field) -> Result<()> {
        if !field.omit_empty() {
            self.sink.field(field.name());
            self.sink.null();
        }
        Ok(())
    }

    fn single(&mut self, field: &Field, at: usize, index: &MessageIndex, bytes: &[u8], depth: usize) -> Result<()> {
        let raw = index.last(at, bytes)?;
        if field.is_inline() {
            return match (field.struct_type(), raw) {
                (Some(inner), Some(_)) => {
                    let content = merged(field, at, index, bytes)?;
                    self.fields(inner, &content, depth + 1)
                }
                (Some(inner), None) if !field.is_pointer() => self.fields(inner, &[], depth + 1),
                _ => Ok(()),
            };
        }
        let Some(raw) = raw else {
            if field.omit_empty() && plain(field.elem()) {
                return Ok(());
            }
            if field.is_pointer() || matches!(field.elem(), Elem::Any | Elem::Bytes | Elem::StringList) {
                return self.absent(field);
            }
            return self.single_value(field, empty(field), depth);
        };
        if index.repeated(at) && matches!(field.elem(), Elem::Struct(_)) {
            let content = merged(field, at, index, bytes)?;
            return self.single_value(field, Raw { bytes: &content, ..raw }, depth);
        }
        self.single_value(field, raw, depth)
    }

    fn single_value(&mut self, field: &Field, raw: Raw<'_>, depth: usize) -> Result<()> {
        if !field.is_pointer() && omitted(field, &raw)? {
            return Ok(());
        }
        self.sink.field(field.name());
        self.value(field.elem(), raw, depth)
    }

    fn list_item(&mut self, elem: Elem, raw: Raw<'_>, depth: usize) -> Result<()> {
        let number = matches!(elem, Elem::Bool | Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64);
        if number && raw.wire == wire::BYTES {
            // Packed numbers, which other writers of protobuf may send.
            let mut reader = Reader::new(raw.bytes);
            while reader.pos() < raw.bytes.len() {
                let int = reader.varint()?;
                self.sink.elem();
                self.value(elem, Raw { wire: wire::VARINT, int, ..raw }, depth)?;
            }
            return Ok(());
        }
        self.sink.elem();
        self.value(elem, raw, depth)
    }

    fn map(&mut self, field: &Field, mut entries: Occurrences<'_>, depth: usize) -> Result<()> {
        self.sink.field(field.name());
        self.sink.begin_object();
        // Gogo sorts keys; a writer that repeats one makes us keep the last.
        let mut sorted = Vec::new();
        while let Some(raw) = entries.next()? {
            let (key, value) = map_entry(field.elem(), raw.bytes)?;
            sorted.push((key, value));
        }
        if !sorted.is_sorted_by(|a, b| a.0 < b.0) {
            sorted.reverse();
            sorted.sort_by_key(|e| e.0);
            sorted.dedup_by_key(|e| e.0);
        }
        for (key, value) in sorted {
            self.sink.key(&String::from_utf8_lossy(key));
            self.value(field.elem(), value, depth)?;
        }
        self.sink.end_object();
        Ok(())
    }

    pub(super) fn value(&mut self, elem: Elem, raw: Raw<'_>, depth: usize) -> Result<()> {
        check_wire(elem, &raw)?;
        match elem {
            Elem::String => self.sink.string(&String::from_utf8_lossy(raw.bytes)),
            Elem::Bytes => self.sink.string(&base64::engine::general_purpose::STANDARD.encode(raw.bytes)),
            Elem::Bool => self.sink.bool(raw.int != 0),
            Elem::I32 => self.sink.int(i64::from(raw.int as i32)),
            Elem::I64 => self.sink.int(raw.int as i64),
            Elem::U32 => self.sink.uint(u64::from(raw.int as u32)),
            Elem::U64 => self.sink.uint(raw.int),
            Elem::F64 => self.sink.float(f64::from_bits(raw.int)),
            Elem::Time => match read_time(raw.bytes)? {
                Some((seconds, _)) => self.sink.string(TimeText::new(seconds).as_str()),
                None => self.sink.null(),
            },
            Elem::Quantity => match std::str::from_utf8(raw_json(raw.bytes)?) {
                Ok(text) if is_canonical(text) => self.sink.string(text),
                _ => self.sink.string(&quantity(raw.bytes)?),
            },
            Elem::MicroTime | Elem::Duration => match scalar_text(elem, raw.bytes)? {
                Some(text) => self.sink.string(&text),
                None => self.sink.null(),
            },
            Elem::IntOrString => match int_or_string(raw.bytes)? {
                Ok(int) => self.sink.int(int),
                Err(text) => self.sink.string(&text),
            },
            Elem::FieldsV1 => match raw_json(raw.bytes)? {
                b"" => self.sink.null(),
                json => self.sink.fields_v1(json)?,
            },
            Elem::Raw | Elem::Json => match raw_json(raw.bytes)? {
                b"" => self.sink.null(),
                json => self.sink.raw(json)?,
            },
            Elem::StringList => {
                self.sink.begin_array();
                let mut reader = Reader::new(raw.bytes);
                while let Some(item) = reader.next()? {
                    if item.number == 1 {
                        self.sink.elem();
                        self.sink.string(&String::from_utf8_lossy(item.bytes));
                    }
                }
                self.sink.end_array();
            }
            Elem::Struct(id) => self.message(TypeRef(id), raw.bytes, depth + 1)?,
            Elem::PropsOrArray(_) | Elem::PropsOrBool(_) | Elem::PropsOrStrings(_) => {
                props::read(self, elem, raw.bytes, depth + 1)?;
            }
            Elem::Any => self.sink.null(),
        }
        Ok(())
    }
}

/// Whether a value's zero is nothing but zero, and so left out by `omitempty` whether Go holds a pointer or not.
fn plain(elem: Elem) -> bool {
    matches!(elem, Elem::String | Elem::Bytes | Elem::Bool | Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64 | Elem::F64)
}

/// A field's value when the wire does not have it.
fn empty(field: &Field) -> Raw<'static> {
    let wire = wire_type(field.elem());
    Raw { number: field.number(), wire, int: 0, bytes: &[] }
}

pub(crate) fn wire_type(elem: Elem) -> u8 {
    match elem {
        Elem::Bool | Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64 => wire::VARINT,
        Elem::F64 => wire::FIXED64,
        _ => wire::BYTES,
    }
}

fn check_wire(elem: Elem, raw: &Raw<'_>) -> Result<()> {
    if raw.wire == wire_type(elem) { Ok(()) } else { Err(Error::Wire("wrong wireType for field")) }
}

/// Whether Go's `omitempty` or `omitzero` leaves the value out.
pub(crate) fn omitted(field: &Field, raw: &Raw<'_>) -> Result<bool> {
    if !field.omit_empty() {
        return Ok(false);
    }
    Ok(match field.elem() {
        Elem::String | Elem::Bytes => raw.bytes.is_empty(),
        Elem::Bool | Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64 => raw.int == 0,
        Elem::F64 => f64::from_bits(raw.int) == 0.0,
        Elem::Time | Elem::MicroTime if field.omit_zero() => read_time(raw.bytes)?.is_none(),
        Elem::StringList => raw.bytes.is_empty(),
        _ => false,
    })
}

/// All occurrences of a single message; protobuf merges them, which for messages means to join the bytes.
pub(crate) fn merged<'a>(
    field: &Field,
    at: usize,
    index: &MessageIndex,
    bytes: &'a [u8],
) -> Result<std::borrow::Cow<'a, [u8]>> {
    let mut items = index.occurrences(at, field, bytes);
    let first = items.next()?.map(|r| r.bytes).unwrap_or_default();
    if !index.repeated(at) {
        return Ok(first.into());
    }
    let mut all = first.to_vec();
    while let Some(raw) = items.next()? {
        all.extend_from_slice(raw.bytes);
    }
    Ok(all.into())
}

/// Splits a map's entry; an absent value is the zero value.
pub(crate) fn map_entry(elem: Elem, bytes: &[u8]) -> Result<(&[u8], Raw<'_>)> {
    let mut key: &[u8] = &[];
    let mut value = Raw { number: 2, wire: wire_type(elem), int: 0, bytes: &[] };
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        match raw.number {
            1 if raw.wire == wire::BYTES => key = raw.bytes,
            2 => value = raw,
            _ => {}
        }
    }
    Ok((key, value))
}

/// The content of field 1 as a number, as in `Duration`.
pub(crate) fn first_int(bytes: &[u8]) -> Result<u64> {
    let mut value = 0;
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        if raw.number == 1 {
            value = raw.int;
        }
    }
    Ok(value)
}

/// The content of field 1 as bytes, as in `RawExtension`, `FieldsV1` and `JSON`.
pub(crate) fn raw_json(bytes: &[u8]) -> Result<&[u8]> {
    let mut value: &[u8] = &[];
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        if raw.number == 1 {
            value = raw.bytes;
        }
    }
    Ok(value)
}

pub(crate) fn quantity(bytes: &[u8]) -> Result<String> {
    match raw_json(bytes)? {
        b"" => Ok("0".to_owned()),
        text => canonical_quantity(&String::from_utf8_lossy(text)),
    }
}

/// An `IntOrString` as its number, or as its text.
pub(crate) fn int_or_string(bytes: &[u8]) -> Result<std::result::Result<i64, String>> {
    let (mut kind, mut int, mut text) = (0, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some(raw) = reader.next()? {
        match raw.number {
            1 => kind = raw.int,
            2 => int = i64::from(raw.int as i32),
            3 => text = String::from_utf8_lossy(raw.bytes).into_owned(),
            _ => {}
        }
    }
    Ok(if kind == 0 { Ok(int) } else { Err(text) })
}
