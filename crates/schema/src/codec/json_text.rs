//! Where the guided decoder reads from: JSON text or a tree.

use serde_json::{Map, Value};

use super::sink::plain_prefix;
use super::{Error, Result};

/// What kind of JSON value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// A scalar, as it stands.
#[derive(Debug)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Number(String),
    String(String),
}

/// A pull parser over one JSON value.
pub(super) trait Source {
    fn peek(&mut self) -> Result<Kind>;
    /// Consumes a scalar; containers are skipped and give null.
    fn scalar(&mut self) -> Result<Scalar>;
    fn enter_object(&mut self) -> Result<()>;
    /// The next key, after which its value comes; `None` closes the object.
    fn next_key(&mut self) -> Result<Option<String>>;
    fn enter_array(&mut self) -> Result<()>;
    /// Whether an element comes next; `false` closes the array.
    fn next_elem(&mut self) -> Result<bool>;
    fn skip(&mut self) -> Result<()>;
}

/// JSON text.
pub(super) struct Text<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// Per open container: whether nothing was read in it yet.
    fresh: Vec<bool>,
}

impl<'a> Text<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, pos: 0, fresh: Vec::new() }
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.pos), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.pos += 1;
        }
    }

    fn byte(&mut self) -> Result<u8> {
        self.space();
        self.bytes.get(self.pos).copied().ok_or_else(end)
    }

    fn invalid(&self, context: &str) -> Error {
        match self.bytes.get(self.pos) {
            None => end(),
            Some(_) => {
                let tail = String::from_utf8_lossy(&self.bytes[self.pos..self.bytes.len().min(self.pos + 4)]);
                let c = tail.chars().next().unwrap_or('\u{fffd}');
                Error::Json(format!("invalid character {c:?} {context}"))
            }
        }
    }

    /// Nothing but space may follow the value.
    pub fn finish(&mut self) -> Result<()> {
        self.space();
        if self.pos < self.bytes.len() { Err(self.invalid("after top-level value")) } else { Ok(()) }
    }

    fn literal(&mut self, word: &'static str) -> Result<()> {
        for expected in word.bytes() {
            if self.bytes.get(self.pos) != Some(&expected) {
                let context = format!("in literal {word} (expecting {:?})", char::from(expected));
                return Err(self.invalid(&context));
            }
            self.pos += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<&'a str> {
        let start = self.pos;
        if self.bytes.get(self.pos) == Some(&b'-') {
            self.pos += 1;
        }
        match self.bytes.get(self.pos) {
            Some(b'0') => self.pos += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.invalid("in numeric literal")),
        }
        if self.bytes.get(self.pos) == Some(&b'.') {
            self.pos += 1;
            self.some_digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.pos) {
            self.pos += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.pos) {
                self.pos += 1;
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        // Digits, signs, a dot and an E.
        Ok(std::str::from_utf8(&self.bytes[start..self.pos]).unwrap_or_default())
    }

    fn digits(&mut self) {
        while matches!(self.bytes.get(self.pos), Some(b'0'..=b'9')) {
            self.pos += 1;
        }
    }

    fn some_digits(&mut self, context: &str) -> Result<()> {
        let start = self.pos;
        self.digits();
        if self.pos == start { Err(self.invalid(context)) } else { Ok(()) }
    }

    fn string(&mut self) -> Result<String> {
        let mut out: Vec<u8> = Vec::new();
        self.each_part(|part| out.extend_from_slice(part))?;
        Ok(match String::from_utf8(out) {
            Ok(text) => text,
            // Go replaces what is not UTF-8.
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// Reads a string and hands on its content in parts, unescaped.
    fn each_part(&mut self, mut put: impl FnMut(&[u8])) -> Result<()> {
        self.pos += 1;
        loop {
            let rest = self.bytes.get(self.pos..).unwrap_or_default();
            let plain = plain_prefix(rest);
            put(&rest[..plain]);
            self.pos += plain;
            match self.bytes.get(self.pos) {
                None => return Err(end()),
                Some(b'"') => {
                    self.pos += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.pos += 1;
                    self.escape(&mut put)?;
                }
                Some(_) => return Err(self.invalid("in string literal")),
            }
        }
    }

    fn escape(&mut self, put: &mut impl FnMut(&[u8])) -> Result<()> {
        let plain = match self.bytes.get(self.pos) {
            None => return Err(end()),
            Some(b'"') => b'"',
            Some(b'\\') => b'\\',
            Some(b'/') => b'/',
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                self.pos += 1;
                let c = self.unicode()?;
                put(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            Some(_) => return Err(self.invalid("in string escape code")),
        };
        self.pos += 1;
        put(&[plain]);
        Ok(())
    }

    /// What comes before the next key; `false` closes the object.
    fn before_key(&mut self) -> Result<bool> {
        let mut byte = self.byte()?;
        if byte == b'}' {
            self.pos += 1;
            self.fresh.pop();
            return Ok(false);
        }
        if let Some(fresh) = self.fresh.last_mut()
            && !std::mem::replace(fresh, false)
        {
            if byte != b',' {
                return Err(self.invalid("after object key:value pair"));
            }
            self.pos += 1;
            byte = self.byte()?;
        }
        if byte != b'"' {
            return Err(self.invalid("looking for beginning of object key string"));
        }
        Ok(true)
    }

    fn after_key(&mut self) -> Result<()> {
        if self.byte()? != b':' {
            return Err(self.invalid("after object key"));
        }
        self.pos += 1;
        Ok(())
    }

    /// As [`Source::next_key`] for a key that nobody asks for.
    fn pass_key(&mut self) -> Result<bool> {
        if !self.before_key()? {
            return Ok(false);
        }
        self.each_part(|_| {})?;
        self.after_key()?;
        Ok(true)
    }

    /// As [`Source::scalar`] for a scalar that nobody asks for.
    fn pass_scalar(&mut self) -> Result<()> {
        match self.byte()? {
            b'"' => self.each_part(|_| {}),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            _ => self.scalar().map(drop),
        }
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.pos).and_then(|b| char::from(*b).to_digit(16));
            value = value * 16 + digit.ok_or_else(|| self.invalid("in \\u hexadecimal character escape"))?;
            self.pos += 1;
        }
        Ok(value)
    }

    fn unicode(&mut self) -> Result<char> {
        let high = self.hex4()?;
        if (0xd800..0xdc00).contains(&high) && self.bytes[self.pos..].starts_with(b"\\u") {
            let back = self.pos;
            self.pos += 2;
            let low = self.hex4()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            self.pos = back;
        }
        Ok(char::from_u32(high).unwrap_or('\u{fffd}'))
    }
}

fn end() -> Error {
    Error::Json("unexpected end of JSON input".to_owned())
}

impl Source for Text<'_> {
    fn peek(&mut self) -> Result<Kind> {
        Ok(match self.byte()? {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool,
            b'-' | b'0'..=b'9' => Kind::Number,
            b'"' => Kind::String,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            _ => return Err(self.invalid("looking for beginning of value")),
        })
    }

    fn scalar(&mut self) -> Result<Scalar> {
        match self.byte()? {
            b'n' => self.literal("null").map(|()| Scalar::Null),
            b't' => self.literal("true").map(|()| Scalar::Bool(true)),
            b'f' => self.literal("false").map(|()| Scalar::Bool(false)),
            b'"' => self.string().map(Scalar::String),
            b'-' | b'0'..=b'9' => self.number().map(|text| Scalar::Number(text.to_owned())),
            b'[' | b'{' => self.skip().map(|()| Scalar::Null),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    fn enter_object(&mut self) -> Result<()> {
        self.pos += 1;
        self.fresh.push(true);
        Ok(())
    }

    fn next_key(&mut self) -> Result<Option<String>> {
        if !self.before_key()? {
            return Ok(None);
        }
        let key = self.string()?;
        self.after_key()?;
        Ok(Some(key))
    }

    fn enter_array(&mut self) -> Result<()> {
        self.pos += 1;
        self.fresh.push(true);
        Ok(())
    }

    fn next_elem(&mut self) -> Result<bool> {
        let byte = self.byte()?;
        if byte == b']' {
            self.pos += 1;
            self.fresh.pop();
            return Ok(false);
        }
        if let Some(fresh) = self.fresh.last_mut()
            && !std::mem::replace(fresh, false)
        {
            if byte != b',' {
                return Err(self.invalid("after array element"));
            }
            self.pos += 1;
            if self.byte()? == b']' {
                return Err(self.invalid("looking for beginning of value"));
            }
        }
        Ok(true)
    }

    /// Skips without recursion, so that depth costs no stack.
    fn skip(&mut self) -> Result<()> {
        let base = self.fresh.len();
        let mut objects: Vec<bool> = Vec::new();
        loop {
            match self.peek()? {
                Kind::Object => {
                    self.enter_object()?;
                    objects.push(true);
                }
                Kind::Array => {
                    self.enter_array()?;
                    objects.push(false);
                }
                _ => self.pass_scalar()?,
            }
            if objects.len() > super::decode::MAX_JSON_DEPTH {
                return Err(Error::TooDeep);
            }
            while let Some(&object) = objects.last() {
                let more = if object { self.pass_key()? } else { self.next_elem()? };
                if more {
                    break;
                }
                objects.pop();
            }
            if objects.is_empty() {
                debug_assert_eq!(self.fresh.len(), base);
                return Ok(());
            }
        }
    }
}

enum Open {
    Object(serde_json::map::IntoIter),
    Array(std::vec::IntoIter<Value>),
}

/// A tree, consumed.
pub(super) struct Tree {
    next: Value,
    open: Vec<Open>,
}

impl Tree {
    pub fn new(map: Map<String, Value>) -> Self {
        Self { next: Value::Object(map), open: Vec::new() }
    }
}

impl Source for Tree {
    fn peek(&mut self) -> Result<Kind> {
        Ok(match &self.next {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        })
    }

    fn scalar(&mut self) -> Result<Scalar> {
        Ok(match std::mem::take(&mut self.next) {
            Value::Bool(value) => Scalar::Bool(value),
            Value::Number(number) => Scalar::Number(number.to_string()),
            Value::String(text) => Scalar::String(text),
            _ => Scalar::Null,
        })
    }

    fn enter_object(&mut self) -> Result<()> {
        let map = match std::mem::take(&mut self.next) {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        self.open.push(Open::Object(map.into_iter()));
        Ok(())
    }

    fn next_key(&mut self) -> Result<Option<String>> {
        if let Some(Open::Object(entries)) = self.open.last_mut()
            && let Some((key, value)) = entries.next()
        {
            self.next = value;
            return Ok(Some(key));
        }
        self.open.pop();
        Ok(None)
    }

    fn enter_array(&mut self) -> Result<()> {
        let list = match std::mem::take(&mut self.next) {
            Value::Array(list) => list,
            _ => Vec::new(),
        };
        self.open.push(Open::Array(list.into_iter()));
        Ok(())
    }

    fn next_elem(&mut self) -> Result<bool> {
        if let Some(Open::Array(items)) = self.open.last_mut()
            && let Some(value) = items.next()
        {
            self.next = value;
            return Ok(true);
        }
        self.open.pop();
        Ok(false)
    }

    fn skip(&mut self) -> Result<()> {
        self.next = Value::Null;
        Ok(())
    }
}
