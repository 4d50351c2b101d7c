//! Values. What comes from an object stays in its JSON tree until a part of it is looked at.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use crate::authz;
use crate::error::Error;
use crate::lib_semver::Version;
use crate::lib_url::Url;
use crate::time::{Span, Stamp};
use crate::types::{DYN, ObjectType, Type, TypeKind};

/// A value.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Text<'a>),
    Bytes(Rc<[u8]>),
    Duration(Span),
    Timestamp(Stamp),
    List(List<'a>),
    Map(Map<'a>),
    /// A type, by name.
    Type(Rc<str>),
    Optional(Option<Rc<Value<'a>>>),
    Url(Rc<Url>),
    Quantity(meta::quantity::Quantity),
    Ip(IpAddr),
    Cidr(crate::lib_net::Cidr),
    Semver(Rc<Version>),
    Format(&'static crate::lib_format::Format),
    Authz(Rc<authz::Node<'a>>),
    /// The variables of a policy, each of which is evaluated when it is asked for.
    Variables,
}

/// A string, of the object or computed.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Text<'a> {
    Ref(&'a str),
    Own(Rc<str>),
}

impl Text<'_> {
    /// The characters.
    pub fn as_str(&self) -> &str {
        match self {
            Text::Ref(text) => text,
            Text::Own(text) => text,
        }
    }
}

/// A list, of the object or computed.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum List<'a> {
    Json(&'a [Json], &'a Type),
    Own(Rc<Vec<Value<'a>>>),
}

/// What is known about the values of a JSON object.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub enum Shape<'a> {
    /// Any keys, values of this type.
    Map(&'a Type),
    /// Fields.
    Object(&'a ObjectType),
}

/// A map or an object.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Map<'a> {
    Json(&'a serde_json::Map<String, Json>, Shape<'a>),
    Own(Rc<BTreeMap<Key, Value<'a>>>),
    /// Made by a constructor, such as `Object.spec{}`; by field name.
    Object(Rc<(String, BTreeMap<Key, Value<'a>>)>),
}

/// A key of a computed map. Numbers of different types that are equal are the same key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Str(Rc<str>),
}

impl Key {
    /// The key as a value.
    pub fn value<'a>(&self) -> Value<'a> {
        match self {
            Key::Bool(b) => Value::Bool(*b),
            Key::Int(i) => Value::Int(*i),
            Key::Uint(u) => Value::Uint(*u),
            Key::Str(s) => Value::Str(Text::Own(s.clone())),
        }
    }
}

/// A value of the object, seen as its schema declares it.
///
/// # Errors
/// A string does not have the declared format.
pub fn from_json<'a>(json: &'a Json, ty: &'a Type) -> Result<Value<'a>, Error> {
    Ok(match (json, &ty.kind) {
        (Json::Null, _) => Value::Null,
        (Json::Bool(b), _) => Value::Bool(*b),
        (Json::Number(n), TypeKind::Double) => Value::Double(n.as_f64().unwrap_or_default()),
        (Json::Number(n), _) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => Value::Double(n.as_f64().unwrap_or_default()),
        },
        (Json::String(s), TypeKind::Timestamp) if s.len() == 10 => {
            Value::Timestamp(Stamp::parse(&format!("{s}T00:00:00Z"))?)
        }
        (Json::String(s), TypeKind::Timestamp) => Value::Timestamp(Stamp::parse(s)?),
        (Json::String(s), TypeKind::Duration) => Value::Duration(Span::parse(s)?),
        (Json::String(s), TypeKind::Bytes) => {
            let bytes = STANDARD.decode(s).map_err(|e| Error::eval(format!("Invalid byte string {s}: {e}")))?;
            Value::Bytes(bytes.into())
        }
        (Json::String(s), _) => Value::Str(Text::Ref(s)),
        (Json::Array(items), TypeKind::List(element)) => Value::List(List::Json(items, element)),
        (Json::Array(items), _) => Value::List(List::Json(items, &DYN)),
        (Json::Object(map), TypeKind::Object(object)) => Value::Map(Map::Json(map, Shape::Object(object))),
        (Json::Object(map), TypeKind::Map(parts)) => Value::Map(Map::Json(map, Shape::Map(&parts.1))),
        (Json::Object(map), _) => Value::Map(Map::Json(map, Shape::Map(&DYN))),
    })
}

impl<'a> Value<'a> {
    /// A computed string.
    pub fn text(text: impl Into<Rc<str>>) -> Self {
        Value::Str(Text::Own(text.into()))
    }

    /// A computed list.
    pub fn list(items: Vec<Value<'a>>) -> Self {
        Value::List(List::Own(Rc::new(items)))
    }

    /// A list of strings.
    pub fn texts<S: Into<Rc<str>>>(items: impl IntoIterator<Item = S>) -> Self {
        Self::list(items.into_iter().map(Value::text).collect())
    }

    /// An optional with a value.
    pub fn some(value: Value<'a>) -> Self {
        Value::Optional(Some(Rc::new(value)))
    }

    /// The name of its type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::Str(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::List(_) => "list",
            Value::Map(Map::Object(object)) => &object.0,
            Value::Map(_) | Value::Variables => "map",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Url(_) => "kubernetes.URL",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Ip(_) => "net.IP",
            Value::Cidr(_) => "net.CIDR",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Authz(node) => node.type_name(),
        }
    }

    /// The boolean.
    ///
    /// # Errors
    /// It is none.
    pub fn bool(&self) -> Result<bool, Error> {
        match self {
            Value::Bool(b) => Ok(*b),
            _ => Err(Error::no_overload()),
        }
    }

    /// The string.
    ///
    /// # Errors
    /// It is none.
    pub fn str(&self) -> Result<&str, Error> {
        match self {
            Value::Str(text) => Ok(text.as_str()),
            _ => Err(Error::no_overload()),
        }
    }

    /// The integer.
    ///
    /// # Errors
    /// It is none.
    pub fn int(&self) -> Result<i64, Error> {
        match self {
            Value::Int(i) => Ok(*i),
            _ => Err(Error::no_overload()),
        }
    }

    /// The elements.
    ///
    /// # Errors
    /// It is no list, or an element does not have its declared format.
    pub fn items(&self) -> Result<Vec<Value<'a>>, Error> {
        match self {
            Value::List(list) => list.items(),
            _ => Err(Error::no_overload()),
        }
    }

    /// Characters, elements or entries; upstream's measure of costs.
    pub fn size(&self) -> u64 {
        match self {
            Value::Str(text) => text.as_str().chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Optional(Some(value)) => value.size(),
            Value::Ip(IpAddr::V4(_)) => 4,
            Value::Ip(IpAddr::V6(_)) => 16,
            Value::Cidr(cidr) => {
                if cidr.addr.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            _ => 1,
        }
    }

    /// The value as a key.
    ///
    /// # Errors
    /// Its type cannot be a key.
    pub fn key(&self) -> Result<Key, Error> {
        match self {
            Value::Bool(b) => Ok(Key::Bool(*b)),
            Value::Int(i) => Ok(Key::Int(*i)),
            Value::Uint(u) => Ok(i64::try_from(*u).map_or(Key::Uint(*u), Key::Int)),
            #[allow(clippy::cast_possible_truncation)]
            Value::Double(d) if d.fract() == 0.0 && d.abs() < 9e18 => Ok(Key::Int(*d as i64)),
            Value::Str(text) => Ok(Key::Str(text.as_str().into())),
            _ => Err(Error::eval(format!("unsupported key type: {}", self.type_name()))),
        }
    }

    /// The value as JSON, for outputs.
    ///
    /// # Errors
    /// It has no form in JSON.
    pub fn to_json(&self) -> Result<Json, Error> {
        Ok(match self {
            Value::Null => Json::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(i) => (*i).into(),
            Value::Uint(u) => (*u).into(),
            Value::Double(d) => (*d).into(),
            Value::Str(text) => text.as_str().into(),
            Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
            Value::Duration(span) => span.to_string().into(),
            Value::Timestamp(stamp) => stamp.to_string().into(),
            Value::Quantity(quantity) => quantity.to_string().into(),
            Value::List(List::Json(items, _)) => Json::Array(items.to_vec()),
            Value::List(List::Own(items)) => Json::Array(items.iter().map(Value::to_json).collect::<Result<_, _>>()?),
            Value::Map(Map::Json(map, _)) => Json::Object((*map).clone()),
            Value::Map(Map::Own(map)) => entries_to_json(map)?,
            Value::Map(Map::Object(object)) => entries_to_json(&object.1)?,
            Value::Optional(Some(value)) => value.to_json()?,
            other => return Err(Error::eval(format!("cannot convert {} to JSON", other.type_name()))),
        })
    }
}

fn entries_to_json(map: &BTreeMap<Key, Value<'_>>) -> Result<Json, Error> {
    let entries = map.iter().map(|(key, value)| match key {
        Key::Str(name) => Ok((name.to_string(), value.to_json()?)),
        _ => Err(Error::eval("keys of JSON objects must be strings")),
    });
    Ok(Json::Object(entries.collect::<Result<_, _>>()?))
}

impl<'a> List<'a> {
    /// How many elements.
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, _) => items.len(),
            List::Own(items) => items.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element.
    ///
    /// # Errors
    /// It does not have its declared format.
    pub fn get(&self, index: usize) -> Result<Option<Value<'a>>, Error> {
        match self {
            List::Json(items, ty) => items.get(index).map(|item| from_json(item, ty)).transpose(),
            List::Own(items) => Ok(items.get(index).cloned()),
        }
    }

    /// All elements.
    ///
    /// # Errors
    /// One does not have its declared format.
    pub fn items(&self) -> Result<Vec<Value<'a>>, Error> {
        match self {
            List::Json(items, ty) => items.iter().map(|item| from_json(item, ty)).collect(),
            List::Own(items) => Ok(items.to_vec()),
        }
    }
}

impl<'a> Map<'a> {
    /// How many entries.
    pub fn len(&self) -> usize {
        match self {
            Map::Json(map, _) => map.len(),
            Map::Own(map) => map.len(),
            Map::Object(object) => object.1.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value by its key; in objects, by the field's name as expressions write it.
    ///
    /// # Errors
    /// It does not have its declared format.
    pub fn get(&self, key: &Key) -> Result<Option<Value<'a>>, Error> {
        match (self, key) {
            (Map::Json(map, shape), Key::Str(name)) => shape.get(map, name),
            (Map::Json(..), _) => Ok(None),
            (Map::Own(map), _) => Ok(map.get(key).cloned()),
            (Map::Object(object), _) => Ok(object.1.get(key).cloned()),
        }
    }

    /// A value by a field's name, without making a key.
    ///
    /// # Errors
    /// It does not have its declared format.
    pub fn field(&self, name: &str) -> Result<Option<Value<'a>>, Error> {
        match self {
            Map::Json(map, shape) => shape.get(map, name),
            _ => self.get(&Key::Str(name.into())),
        }
    }

    /// All entries, by key.
    ///
    /// # Errors
    /// A value does not have its declared format.
    pub fn entries(&self) -> Result<Vec<(Key, Value<'a>)>, Error> {
        let own = |map: &BTreeMap<Key, Value<'a>>| map.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        match self {
            Map::Json(map, shape) => map
                .iter()
                .filter_map(|(name, json)| shape.type_of(name).map(|(name, ty)| (name, json, ty)))
                .map(|(name, json, ty)| Ok((Key::Str(name.into()), from_json(json, ty)?)))
                .collect(),
            Map::Own(map) => Ok(own(map)),
            Map::Object(object) => Ok(own(&object.1)),
        }
    }
}

impl<'a> Shape<'a> {
    fn get(&self, map: &'a serde_json::Map<String, Json>, name: &str) -> Result<Option<Value<'a>>, Error> {
        let (name, ty) = match self {
            Shape::Map(ty) => (name, *ty),
            Shape::Object(object) => match object.fields.get(name) {
                Some(field) => (field.json.as_str(), &field.ty),
                None => return Ok(None),
            },
        };
        map.get(name).map(|json| from_json(json, ty)).transpose()
    }

    /// The name of an entry in expressions, and its type.
    fn type_of<'n>(&self, json: &'n str) -> Option<(&'n str, &'a Type)> {
        match self {
            Shape::Map(ty) => Some((json, *ty)),
            Shape::Object(object) => {
                let field = object.fields.get(json).filter(|f| f.json == json);
                let field = field.or_else(|| object.fields.values().find(|f| f.json == json))?;
                Some((json, &field.ty))
            }
        }
    }
}
