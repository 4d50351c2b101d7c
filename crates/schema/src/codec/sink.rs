//! Where a walk over protobuf bytes puts what it finds: JSON text or a tree.

use serde_json::{Map, Number, Value};

use super::{Error, Result};

/// Receives JSON in order.
pub(crate) trait Sink {
    fn begin_object(&mut self);
    fn key(&mut self, key: &str);
    /// A key that needs no escaping: a field's name.
    fn field(&mut self, name: &'static str) {
        self.key(name);
    }
    fn end_object(&mut self);
    fn begin_array(&mut self);
    /// Announces the next element of an array.
    fn elem(&mut self);
    fn end_array(&mut self);
    fn null(&mut self);
    fn bool(&mut self, value: bool);
    fn int(&mut self, value: i64);
    fn uint(&mut self, value: u64);
    fn float(&mut self, value: f64);
    fn string(&mut self, value: &str);
    /// JSON text from a `RawExtension`; checked.
    fn raw(&mut self, json: &[u8]) -> Result<()>;
    /// JSON text from a `FieldsV1`. A server has written it, never a client's bytes: text that looks whole is not read.
    fn fields_v1(&mut self, json: &[u8]) -> Result<()> {
        self.raw(json)
    }
}

/// Writes compact JSON text.
pub(crate) struct JsonSink<'a> {
    pub out: &'a mut Vec<u8>,
}

impl Sink for JsonSink<'_> {
    fn begin_object(&mut self) {
        self.out.push(b'{');
    }

    fn key(&mut self, key: &str) {
        // Only an opening brace ends in a brace here: values end in a quote, digit, letter or closing bracket.
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        write_string(self.out, key);
        self.out.push(b':');
    }

    fn field(&mut self, name: &'static str) {
        self.out.reserve(name.len() + 4);
        let start: &[u8] = if self.out.last() == Some(&b'{') { b"\"" } else { b",\"" };
        self.out.extend_from_slice(start);
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn end_object(&mut self) {
        self.out.push(b'}');
    }

    fn begin_array(&mut self) {
        self.out.push(b'[');
    }

    fn elem(&mut self) {
        if self.out.last() != Some(&b'[') {
            self.out.push(b',');
        }
    }

    fn end_array(&mut self) {
        self.out.push(b']');
    }

    fn null(&mut self) {
        self.out.extend_from_slice(b"null");
    }

    fn bool(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn int(&mut self, value: i64) {
        if value < 0 {
            self.out.push(b'-');
        }
        write_uint(self.out, value.unsigned_abs());
    }

    fn uint(&mut self, value: u64) {
        write_uint(self.out, value);
    }

    fn float(&mut self, value: f64) {
        match number(value) {
            Some(number) => write_display(self.out, number),
            None => self.null(),
        }
    }

    fn string(&mut self, value: &str) {
        write_string(self.out, value);
    }

    fn raw(&mut self, json: &[u8]) -> Result<()> {
        let text: &serde_json::value::RawValue = serde_json::from_slice(json).map_err(invalid_raw)?;
        self.out.extend_from_slice(text.get().as_bytes());
        Ok(())
    }

    fn fields_v1(&mut self, json: &[u8]) -> Result<()> {
        if json.first() == Some(&b'{') && json.last() == Some(&b'}') {
            self.out.extend_from_slice(json);
            return Ok(());
        }
        self.raw(json)
    }
}

fn invalid_raw(error: serde_json::Error) -> Error {
    Error::Json(format!("json: error calling MarshalJSON for type runtime.RawExtension: {error}"))
}

fn write_uint(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

/// Go prints a whole float as an integer, and so do we in both forms.
pub(crate) fn number(value: f64) -> Option<Number> {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

/// How many bytes at the start of a text stand in JSON as they are; eight are looked at together.
pub(crate) fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    while let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        let word = u64::from_le_bytes(eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let special = control | zero_in(word ^ (ONES * 0x22)) | zero_in(word ^ (ONES * 0x5c));
        if special != 0 {
            // Borrows make only bytes after the first hit uncertain.
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    at + bytes[at..].iter().position(special).unwrap_or(bytes.len() - at)
}

/// Writes a JSON string with its quotes.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(text.len() + 2);
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, tail) = rest.split_at(plain_prefix(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = tail.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        rest = after;
    }
    out.push(b'"');
}

enum Frame {
    Object(Map<String, Value>, String),
    Array(Vec<Value>),
}

/// Builds a tree.
#[derive(Default)]
pub(crate) struct TreeSink {
    stack: Vec<Frame>,
    done: Option<Value>,
}

impl TreeSink {
    pub fn finish(self) -> Value {
        self.done.unwrap_or(Value::Null)
    }

    fn put(&mut self, value: Value) {
        match self.stack.last_mut() {
            Some(Frame::Object(map, key)) => {
                map.insert(std::mem::take(key), value);
            }
            Some(Frame::Array(list)) => list.push(value),
            None => self.done = Some(value),
        }
    }

    fn pop(&mut self) {
        match self.stack.pop() {
            Some(Frame::Object(map, _)) => self.put(Value::Object(map)),
            Some(Frame::Array(list)) => self.put(Value::Array(list)),
            None => {}
        }
    }
}

impl Sink for TreeSink {
    fn begin_object(&mut self) {
        self.stack.push(Frame::Object(Map::new(), String::new()));
    }

    fn key(&mut self, name: &str) {
        if let Some(Frame::Object(_, key)) = self.stack.last_mut() {
            name.clone_into(key);
        }
    }

    fn end_object(&mut self) {
        self.pop();
    }

    fn begin_array(&mut self) {
        self.stack.push(Frame::Array(Vec::new()));
    }

    fn elem(&mut self) {}

    fn end_array(&mut self) {
        self.pop();
    }

    fn null(&mut self) {
        self.put(Value::Null);
    }

    fn bool(&mut self, value: bool) {
        self.put(value.into());
    }

    fn int(&mut self, value: i64) {
        self.put(value.into());
    }

    fn uint(&mut self, value: u64) {
        self.put(value.into());
    }

    fn float(&mut self, value: f64) {
        self.put(number(value).map_or(Value::Null, Value::Number));
    }

    fn string(&mut self, value: &str) {
        self.put(value.into());
    }

    fn raw(&mut self, json: &[u8]) -> Result<()> {
        let value = serde_json::from_slice(json).map_err(invalid_raw)?;
        self.put(value);
        Ok(())
    }
}
