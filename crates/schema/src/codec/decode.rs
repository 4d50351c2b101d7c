//! Decoding JSON by the table with Go's rules, from text or from a tree.
//!
//! The result is the normal form: what upstream's decode into the Go struct and encode again would give. Unknown fields
//! are dropped and, like duplicate ones, reported in upstream's words; the caller decides whether that is an error, a
//! warning or nothing.

use serde_json::{Map, Number, Value};

use super::json_text::{Kind, Scalar, Source, Text, Tree};
use super::scalars::{canonical_quantity, format_duration, micro_time_text, parse_duration, parse_time, time_text};
use super::zero::{fill, is_omitted, zero};
use super::{Error, Result, sink, type_of};
use crate::table::{Card, Elem, Field, TypeRef};

/// JSON nests at most this deep.
pub(super) const MAX_JSON_DEPTH: usize = 512;
/// Upstream reports no more strict errors than this.
const MAX_STRICT_ERRORS: usize = 100;

/// A decoded object and what strict validation says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object in normal form.
    pub object: meta::Object,
    /// `unknown field "spec.foo"`, `duplicate field "spec.x"`, in the order of the text.
    pub strict: Vec<String>,
}

/// Decodes JSON text of a built-in kind; a missing `apiVersion` or `kind` is taken from `default`.
///
/// # Errors
/// Malformed JSON, a missing or unknown kind, or a value of the wrong type, in upstream's words.
pub fn decode_json(bytes: &[u8], default: Option<&meta::GroupVersionKind>) -> Result<Decoded> {
    let (mut api_version, mut kind) = interpret(bytes)?;
    if let Some(gvk) = default {
        if kind.is_empty() {
            kind.clone_from(&gvk.kind);
        }
        if api_version.is_empty() {
            api_version = gvk.api_version();
        }
    }
    if kind.is_empty() {
        return Err(Error::MissingKind(String::from_utf8_lossy(bytes).into_owned()));
    }
    if api_version.is_empty() {
        return Err(Error::MissingVersion(String::from_utf8_lossy(bytes).into_owned()));
    }
    let mut decoded = decode_json_as(type_of(&api_version, &kind)?, bytes)?;
    decoded.object.body.insert("apiVersion".into(), api_version.into());
    decoded.object.body.insert("kind".into(), kind.into());
    Ok(decoded)
}

/// Finds `apiVersion` and `kind`, and checks the syntax of the whole text.
fn interpret(bytes: &[u8]) -> Result<(String, String)> {
    let wrap = |error: Error| Error::Json(format!("couldn't get version/kind; json parse error: {error}"));
    let (mut api_version, mut kind) = (String::new(), String::new());
    let mut source = Text::new(bytes);
    if source.peek().map_err(wrap)? != Kind::Object {
        let message = "json: cannot unmarshal value into Go value of type struct { APIVersion string; Kind string }";
        return Err(wrap(Error::Json(message.to_owned())));
    }
    source.enter_object().map_err(wrap)?;
    while let Some(key) = source.next_key().map_err(wrap)? {
        let target = match key.as_str() {
            "apiVersion" => &mut api_version,
            "kind" => &mut kind,
            _ => {
                source.skip().map_err(wrap)?;
                continue;
            }
        };
        if let Scalar::String(text) = source.scalar().map_err(wrap)? {
            *target = text;
        }
    }
    source.finish().map_err(wrap)?;
    Ok((api_version, kind))
}

/// Decodes JSON text as a known struct.
///
/// # Errors
/// As [`decode_json`].
pub fn decode_json_as(t: TypeRef, bytes: &[u8]) -> Result<Decoded> {
    let mut source = Text::new(bytes);
    let decoded = decode_from(t, &mut source)?;
    source.finish()?;
    Ok(decoded)
}

/// Decodes JSON text of which no struct is known, as upstream's unstructured: everything is kept.
///
/// # Errors
/// Malformed JSON, or no object.
pub fn decode_untyped_json(bytes: &[u8]) -> Result<Decoded> {
    let mut source = Text::new(bytes);
    if source.peek()? != Kind::Object {
        return Err(Error::Json(
            "json: cannot unmarshal value into Go value of type map[string]interface {}".to_owned(),
        ));
    }
    let mut decoder = Decoder::new(&mut source);
    let value = decoder.any(0)?;
    let strict = decoder.strict;
    source.finish()?;
    match value {
        Value::Object(body) => Ok(Decoded { object: meta::Object { body }, strict }),
        _ => Err(Error::Json("json: not an object".to_owned())),
    }
}

/// Decodes a tree as a known struct.
///
/// # Errors
/// A value of the wrong type, in upstream's words.
pub fn decode_value_as(t: TypeRef, tree: Map<String, Value>) -> Result<Decoded> {
    decode_from(t, &mut Tree::new(tree))
}

/// Brings an object of a built-in kind into normal form: what a decode into the Go struct and an encode would give.
///
/// # Errors
/// An unknown kind, or a value of the wrong type; the object is then left empty.
pub fn normalize(object: &mut meta::Object) -> Result<()> {
    let (api_version, kind) = (object.api_version().to_owned(), object.kind().to_owned());
    normalize_as(type_of(&api_version, &kind)?, object)?;
    object.body.insert("apiVersion".into(), api_version.into());
    object.body.insert("kind".into(), kind.into());
    Ok(())
}

/// As [`normalize`], with the struct given.
///
/// # Errors
/// A value of the wrong type; the object is then left empty.
pub fn normalize_as(t: TypeRef, object: &mut meta::Object) -> Result<()> {
    *object = decode_value_as(t, std::mem::take(&mut object.body))?.object;
    Ok(())
}

fn decode_from<S: Source>(t: TypeRef, source: &mut S) -> Result<Decoded> {
    let kind = source.peek()?;
    if kind != Kind::Object {
        let value = kind_name(kind);
        return Err(Error::Json(format!("json: cannot unmarshal {value} into Go value of type {}", t.go_name())));
    }
    let mut decoder = Decoder::new(source);
    let body = decoder.structure(t, 0)?;
    Ok(Decoded { object: meta::Object { body }, strict: decoder.strict })
}

struct Decoder<'s, S> {
    source: &'s mut S,
    strict: Vec<String>,
    /// The path for strict errors, with list indices: `spec.containers[0]`.
    path: String,
    /// The path for type errors, without.
    fields: Vec<&'static str>,
    owner: &'static str,
}

impl<'s, S: Source> Decoder<'s, S> {
    fn new(source: &'s mut S) -> Self {
        Self { source, strict: Vec::new(), path: String::new(), fields: Vec::new(), owner: "" }
    }

    fn complain(&mut self, what: &str, key: &str) {
        if self.strict.len() >= MAX_STRICT_ERRORS {
            return;
        }
        let dot = if self.path.is_empty() { "" } else { "." };
        let message = format!("{what} field {:?}", format!("{}{dot}{key}", self.path));
        if !self.strict.contains(&message) {
            self.strict.push(message);
        }
    }

    fn push_key(&mut self, key: &str) -> usize {
        let len = self.path.len();
        if len > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        len
    }

    fn structure(&mut self, t: TypeRef, depth: usize) -> Result<Map<String, Value>> {
        if depth > MAX_JSON_DEPTH {
            return Err(Error::TooDeep);
        }
        let owner = std::mem::replace(&mut self.owner, t.name());
        let mut out = Map::new();
        let mut seen: Vec<&'static str> = Vec::new();
        self.source.enter_object()?;
        while let Some(key) = self.source.next_key()? {
            if t.is_kind() && matches!(key.as_str(), "apiVersion" | "kind") {
                self.type_meta(&key, &mut out)?;
                continue;
            }
            let Some(field) = t.field(&key) else {
                self.complain("unknown", &key);
                self.source.skip()?;
                continue;
            };
            if seen.contains(&field.name()) {
                self.complain("duplicate", &key);
            }
            seen.push(field.name());
            self.fields.push(field.name());
            let len = self.push_key(&key);
            let value = self.field(field, depth)?;
            self.path.truncate(len);
            self.fields.pop();
            match value.filter(|v| !is_omitted(field, v)) {
                Some(value) => out.insert(key, value),
                None => out.remove(&key),
            };
        }
        fill(t, &mut out);
        self.owner = owner;
        Ok(out)
    }

    fn type_meta(&mut self, key: &str, out: &mut Map<String, Value>) -> Result<()> {
        if out.contains_key(key) {
            self.complain("duplicate", key);
        }
        match self.source.peek()? {
            Kind::String | Kind::Null => {}
            kind => return Err(self.mismatch(kind_name(kind), "string", Some(key))),
        }
        if let Scalar::String(text) = self.source.scalar()?
            && !text.is_empty()
        {
            out.insert(key.to_owned(), text.into());
        }
        Ok(())
    }

    /// A field's value; `None` for Go's nil, so that [`fill`] puts what belongs there.
    fn field(&mut self, field: &'static Field, depth: usize) -> Result<Option<Value>> {
        let kind = self.source.peek()?;
        if kind == Kind::Null {
            self.source.scalar()?;
            return Ok(None);
        }
        let go_type = field.go_type().trim_start_matches('*');
        match field.card() {
            Card::One => self.value(field.elem(), go_type, depth).map(Some),
            Card::List => {
                if kind != Kind::Array {
                    return Err(self.mismatch(kind_name(kind), go_type, None));
                }
                self.list(field.elem(), element_type(go_type), depth).map(Some)
            }
            Card::Map | Card::MapOfLists => {
                if kind != Kind::Object {
                    return Err(self.mismatch(kind_name(kind), go_type, None));
                }
                self.map(field, element_type(go_type), depth).map(Some)
            }
        }
    }

    fn list(&mut self, elem: Elem, go_type: &str, depth: usize) -> Result<Value> {
        let mut items = Vec::new();
        self.source.enter_array()?;
        while self.source.next_elem()? {
            let len = self.path.len();
            self.path.push_str(&format!("[{}]", items.len()));
            items.push(self.value(elem, go_type, depth)?);
            self.path.truncate(len);
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, field: &'static Field, go_type: &str, depth: usize) -> Result<Value> {
        let mut map = Map::new();
        self.source.enter_object()?;
        while let Some(key) = self.source.next_key()? {
            if map.contains_key(&key) {
                self.complain("duplicate", &key);
            }
            let len = self.push_key(&key);
            let value = if field.card() == Card::MapOfLists && self.source.peek()? == Kind::Array {
                self.list(field.elem(), element_type(go_type), depth)?
            } else {
                self.value(field.elem(), go_type, depth)?
            };
            self.path.truncate(len);
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn mismatch(&self, value: &str, go_type: &str, last: Option<&str>) -> Error {
        let mut path = self.fields.join(".");
        if let Some(last) = last {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(last);
        }
        let owner = self.owner;
        Error::Json(if path.is_empty() {
            format!("json: cannot unmarshal {value} into Go value of type {go_type}")
        } else {
            format!("json: cannot unmarshal {value} into Go struct field {owner}.{path} of type {go_type}")
        })
    }

    /// One value; null is the zero value.
    fn value(&mut self, elem: Elem, go_type: &str, depth: usize) -> Result<Value> {
        let kind = self.source.peek()?;
        match (elem, kind) {
            (Elem::Any | Elem::Json, _) => return self.any(depth),
            // RawExtension and FieldsV1 keep text unread in Go: nothing inside can be a duplicate.
            (Elem::Raw | Elem::FieldsV1, _) => {
                let known = self.strict.len();
                let value = self.any(depth);
                self.strict.truncate(known);
                return value;
            }
            (_, Kind::Null) => {
                self.source.scalar()?;
                return Ok(zero(elem));
            }
            (Elem::Struct(id), Kind::Object) => return self.structure(TypeRef(id), depth + 1).map(Value::Object),
            (Elem::PropsOrArray(id) | Elem::PropsOrBool(id) | Elem::PropsOrStrings(id), Kind::Object) => {
                return self.structure(TypeRef(id), depth + 1).map(Value::Object);
            }
            (Elem::PropsOrArray(id), Kind::Array) => return self.list(Elem::Struct(id), go_type, depth),
            (Elem::PropsOrStrings(_) | Elem::StringList, Kind::Array) => {
                return self.list(Elem::String, "string", depth);
            }
            (Elem::PropsOrArray(_) | Elem::PropsOrStrings(_), _) => {
                self.source.scalar()?;
                return Ok(Value::Null);
            }
            (_, Kind::Object | Kind::Array) => return Err(self.wrong(elem, kind, go_type)),
            _ => {}
        }
        let scalar = self.source.scalar()?;
        self.scalar(elem, kind, scalar, go_type)
    }

    fn scalar(&self, elem: Elem, kind: Kind, scalar: Scalar, go_type: &str) -> Result<Value> {
        let value = match (elem, scalar) {
            (Elem::String, Scalar::String(text)) => text.into(),
            (Elem::Bytes, Scalar::String(text)) => base64_text(text)?.into(),
            (Elem::Bool | Elem::PropsOrBool(_), Scalar::Bool(value)) => value.into(),
            (Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64 | Elem::F64, Scalar::Number(text)) => {
                number(elem, &text).ok_or_else(|| self.mismatch(&format!("number {text}"), go_type, None))?
            }
            (Elem::Time, Scalar::String(text)) => {
                parse_time(&text, false)?.map_or(Value::Null, |(s, _)| time_text(s).into())
            }
            (Elem::MicroTime, Scalar::String(text)) => {
                parse_time(&text, true)?.map_or(Value::Null, |(s, n)| micro_time_text(s, n).into())
            }
            (Elem::Duration, Scalar::String(text)) => format_duration(parse_duration(&text)?).into(),
            (Elem::Quantity, Scalar::String(text) | Scalar::Number(text)) => canonical_quantity(&text)?.into(),
            (Elem::IntOrString, Scalar::String(text)) => text.into(),
            (Elem::IntOrString, Scalar::Number(text)) => number(Elem::I32, &text).ok_or_else(|| {
                Error::Json(format!("json: cannot unmarshal number {text} into Go value of type int32"))
            })?,
            (_, _) => return Err(self.wrong(elem, kind, go_type)),
        };
        Ok(value)
    }

    fn wrong(&self, elem: Elem, kind: Kind, go_type: &str) -> Error {
        let value = kind_name(kind);
        match elem {
            // These decode their text by themselves in Go, where the field's name is not known.
            Elem::Time | Elem::MicroTime | Elem::Duration => {
                Error::Json(format!("json: cannot unmarshal {value} into Go value of type string"))
            }
            Elem::IntOrString => Error::Json(format!("json: cannot unmarshal {value} into Go value of type int32")),
            Elem::Quantity => Error::Json(meta::quantity::ParseQuantityError::Format.to_string()),
            Elem::PropsOrBool(_) => Error::Json("boolean or JSON schema expected".to_owned()),
            _ => self.mismatch(value, go_type, None),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Value> {
        if depth > MAX_JSON_DEPTH {
            return Err(Error::TooDeep);
        }
        match self.source.peek()? {
            Kind::Object => {
                let mut map = Map::new();
                self.source.enter_object()?;
                while let Some(key) = self.source.next_key()? {
                    if map.contains_key(&key) {
                        self.complain("duplicate", &key);
                    }
                    let len = self.push_key(&key);
                    let value = self.any(depth + 1)?;
                    self.path.truncate(len);
                    map.insert(key, value);
                }
                Ok(Value::Object(map))
            }
            Kind::Array => {
                let mut items = Vec::new();
                self.source.enter_array()?;
                while self.source.next_elem()? {
                    let len = self.path.len();
                    self.path.push_str(&format!("[{}]", items.len()));
                    items.push(self.any(depth + 1)?);
                    self.path.truncate(len);
                }
                Ok(Value::Array(items))
            }
            _ => Ok(match self.source.scalar()? {
                Scalar::Null => Value::Null,
                Scalar::Bool(value) => value.into(),
                Scalar::String(text) => text.into(),
                Scalar::Number(text) => any_number(&text)?,
            }),
        }
    }
}

/// Upstream keeps integers and takes everything else as a float.
fn any_number(text: &str) -> Result<Value> {
    if let Ok(int) = text.parse::<i64>() {
        return Ok(int.into());
    }
    let float = text.parse::<f64>().ok().and_then(Number::from_f64);
    let overflow = || Error::Json(format!("json: cannot unmarshal number {text} into Go value of type float64"));
    float.map(Value::Number).ok_or_else(overflow)
}

fn number(elem: Elem, text: &str) -> Option<Value> {
    match elem {
        Elem::I32 => text.parse::<i32>().ok().map(Value::from),
        Elem::I64 => text.parse::<i64>().ok().map(Value::from),
        Elem::U32 => text.parse::<u32>().ok().map(Value::from),
        Elem::U64 => text.parse::<u64>().ok().map(Value::from),
        _ => sink::number(text.parse::<f64>().ok()?).map(Value::Number),
    }
}

/// Checks base64 as Go does, and gives it back in its usual form.
fn base64_text(text: String) -> Result<String> {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let clean: std::borrow::Cow<'_, str> =
        if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], "").into() } else { text.as_str().into() };
    match engine.decode(clean.as_bytes()) {
        Ok(bytes) => Ok(engine.encode(bytes)),
        Err(base64::DecodeError::InvalidByte(at, _)) => {
            Err(Error::Json(format!("illegal base64 data at input byte {at}")))
        }
        Err(_) => Err(Error::Json(format!("illegal base64 data at input byte {}", clean.len() / 4 * 4))),
    }
}

/// `[]T` and `map[K]T` without their first layer.
fn element_type(go_type: &str) -> &str {
    let inner = match go_type.strip_prefix("[]") {
        Some(inner) => inner,
        None => go_type.split_once(']').map_or(go_type, |(_, value)| value),
    };
    inner.trim_start_matches('*')
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "null",
        Kind::Bool => "bool",
        Kind::Number => "number",
        Kind::String => "string",
        Kind::Array => "array",
        Kind::Object => "object",
    }
}
