//! Types from OpenAPI schemas, with upstream's bounds on sizes.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::parser::RESERVED;
use crate::types::{Field, ObjectType, Type, TypeKind};

/// Largest request, in bytes, on which bounds are built.
pub const MAX_REQUEST: u64 = 3 * 1024 * 1024;

/// A type made of a schema.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The type.
    pub ty: Type,
    /// Bytes of the smallest value in JSON.
    pub min_size: u64,
}

fn flag(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool).unwrap_or(false)
}

fn number(schema: &Json, name: &str) -> Option<u64> {
    schema.get(name).and_then(Json::as_i64).map(|n| u64::try_from(n).unwrap_or(0))
}

fn declared(ty: Type, max: u64, min_size: u64) -> Declared {
    Declared { ty: ty.at_most(Some(max)), min_size }
}

/// The type of a structural schema, as rules on it see it; `None` when nothing is known about its values. `root` is set
/// for resources, whose `apiVersion`, `kind` and name are always there.
pub fn declare(schema: &Json, root: bool) -> Option<Declared> {
    if flag(schema, "x-kubernetes-int-or-string") {
        let max = number(schema, "maxLength").map_or(MAX_REQUEST - 2, |n| n.saturating_mul(4));
        return Some(declared(Type::DYN, max, 1));
    }
    let kind = schema.get("type").and_then(Json::as_str).unwrap_or("");
    match kind {
        _ if root => Some(object(schema, true)),
        "array" => {
            let items = schema.get("items").filter(|items| items.is_object())?;
            let items = declare(items, flag(items, "x-kubernetes-embedded-resource"))?;
            let max = number(schema, "maxItems").unwrap_or((MAX_REQUEST - 2) / (items.min_size + 1));
            Some(declared(Type::list(items.ty), max, 2))
        }
        "object" => match schema.get("additionalProperties").filter(|more| more.is_object()) {
            Some(more) => {
                let value = declare(more, flag(more, "x-kubernetes-embedded-resource"))?;
                let max = number(schema, "maxProperties").unwrap_or((MAX_REQUEST - 2) / (value.min_size + 6));
                Some(declared(Type::map(Type::STR.at_most(Some(0)), value.ty), max, 2))
            }
            None => Some(object(schema, false)),
        },
        "string" => Some(string(schema)),
        "boolean" => Some(declared(Type::BOOL, 0, 4)),
        "number" => Some(declared(Type::DOUBLE, 0, 1)),
        "integer" => Some(declared(Type::INT, 0, 1)),
        _ => None,
    }
}

fn string(schema: &Json) -> Declared {
    let limit = number(schema, "maxLength");
    let longest = MAX_REQUEST - 2;
    match schema.get("format").and_then(Json::as_str).unwrap_or("") {
        "byte" => declared(Type::BYTES, limit.unwrap_or(longest), 2),
        "duration" => declared(Type::DURATION, 32, 3),
        "date" => declared(Type::TIMESTAMP, 12, 12),
        "date-time" => declared(Type::TIMESTAMP, 32, 21),
        _ => {
            let values = schema.get("enum").and_then(Json::as_array).filter(|values| !values.is_empty());
            let max = match (limit, values) {
                (Some(limit), _) => limit.saturating_mul(4),
                (None, Some(values)) => {
                    values.iter().filter_map(Json::as_str).map(|s| s.len() as u64).max().unwrap_or(0)
                }
                (None, None) => longest,
            };
            declared(Type::STR, max, 2)
        }
    }
}

fn object(schema: &Json, root: bool) -> Declared {
    let required: Vec<&str> =
        schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
    let mut fields = BTreeMap::new();
    let mut min_size = 2;
    for (name, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        if root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let Some(found) = declare(property, flag(property, "x-kubernetes-embedded-resource")) else { continue };
        if required.contains(&name.as_str()) && property.get("default").is_none() {
            min_size += name.len() as u64 + found.min_size + 4;
        }
        if let Some(escaped) = escape(name) {
            fields.insert(escaped, Field { json: name.clone(), ty: found.ty });
        }
    }
    if root {
        let text = || Type::STR.at_most(Some(MAX_REQUEST - 2));
        let metadata = Type::record("object", &[("name", text()), ("generateName", text())]);
        for (name, ty) in [("apiVersion", text()), ("kind", text()), ("metadata", metadata)] {
            fields.insert(name.to_owned(), Field { json: name.to_owned(), ty });
        }
    }
    let name = "object".to_owned();
    Declared { ty: Type::of(TypeKind::Object(ObjectType { name, fields, open: false }.into())), min_size }
}

/// Literals and operators, which are no names either.
const WORDS: [&str; 4] = ["true", "false", "null", "in"];

/// A property's name as expressions write it; `None` when no expression can.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if WORDS.contains(&name) || RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '_' if chars.peek() == Some(&'_') => {
                chars.next();
                escaped.push_str("__underscores__");
            }
            '.' => escaped.push_str("__dot__"),
            '-' => escaped.push_str("__dash__"),
            '/' => escaped.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => escaped.push(c),
            _ => return None,
        }
    }
    Some(escaped)
}
