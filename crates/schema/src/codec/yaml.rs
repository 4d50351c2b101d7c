//! YAML in and out, as JSON in another dress.

use std::cell::RefCell;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Decoded, Error, Result, decode_json, decode_untyped_json};

/// Decodes one YAML document of a built-in kind.
///
/// # Errors
/// Malformed YAML, and as [`decode_json`].
pub fn decode_yaml(bytes: &[u8], default: Option<&meta::GroupVersionKind>) -> Result<Decoded> {
    let (json, duplicates) = convert(bytes)?;
    let mut decoded = decode_json(&json, default)?;
    decoded.strict.splice(0..0, duplicates);
    Ok(decoded)
}

/// Decodes one YAML document of which no struct is known.
///
/// # Errors
/// Malformed YAML, or no object.
pub fn decode_untyped_yaml(bytes: &[u8]) -> Result<Decoded> {
    let (json, duplicates) = convert(bytes)?;
    let mut decoded = decode_untyped_json(&json)?;
    decoded.strict.splice(0..0, duplicates);
    Ok(decoded)
}

/// Turns one YAML document into JSON text; of duplicate keys the last wins.
///
/// # Errors
/// Malformed YAML.
pub fn yaml_to_json(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(convert(bytes)?.0)
}

/// Writes a tree as YAML.
pub fn to_yaml(tree: &Map<String, Value>) -> String {
    // A JSON tree has only string keys, so it cannot fail to serialise.
    serde_yaml_ng::to_string(tree).unwrap_or_default()
}

/// The most duplicate keys whose lines are looked up; each costs a pass over the document.
const MAX_LOCATED: usize = 16;

fn convert(bytes: &[u8]) -> Result<(Vec<u8>, Vec<String>)> {
    let duplicates = RefCell::new(Vec::new());
    let seed = Node { duplicates: &duplicates, stop_at: None };
    let value = seed
        .deserialize(serde_yaml_ng::Deserializer::from_slice(bytes))
        .map_err(|e| Error::Yaml(format!("yaml: {e}")))?;
    let json = serde_json::to_vec(&value).map_err(|e| Error::Yaml(e.to_string()))?;
    Ok((json, strict_errors(bytes, &duplicates.into_inner())))
}

/// The one strict error of go-yaml that lists all duplicate keys with their lines.
fn strict_errors(bytes: &[u8], keys: &[String]) -> Vec<String> {
    if keys.is_empty() {
        return Vec::new();
    }
    let lines = keys.iter().enumerate().take(MAX_LOCATED).map(|(i, key)| {
        let line = line_of_duplicate(bytes, i).unwrap_or_default();
        format!("\n  line {line}: key {key:?} already set in map")
    });
    vec![format!("yaml: unmarshal errors:{}", lines.collect::<String>())]
}

/// The line of the value of the `index`-th duplicate key. The parser tells positions only in errors, so
/// it reads again and is made to fail there.
fn line_of_duplicate(bytes: &[u8], index: usize) -> Option<usize> {
    let duplicates = RefCell::new(Vec::new());
    let seed = Node { duplicates: &duplicates, stop_at: Some(index) };
    let error = seed.deserialize(serde_yaml_ng::Deserializer::from_slice(bytes)).err()?;
    error.location().map(|at| at.line())
}

#[derive(Clone, Copy)]
struct Node<'a> {
    /// Keys that were set before, in the order of the document.
    duplicates: &'a RefCell<Vec<String>>,
    /// Fail at the value of the duplicate of this number.
    stop_at: Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Accepts no value: whatever comes is an error with its position.
struct Refuse;

impl<'de> Visitor<'de> for Refuse {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key that was not set before")
    }
}

impl<'de> DeserializeSeed<'de> for Refuse {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value that JSON can hold")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(super::sink::number(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(self)? {
            let key = match key {
                Value::String(text) => text,
                other => other.to_string(),
            };
            if map.contains_key(&key) {
                if self.stop_at == Some(self.duplicates.borrow().len()) {
                    entries.next_value_seed(Refuse)?;
                }
                self.duplicates.borrow_mut().push(key.clone());
            }
            let value = entries.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
