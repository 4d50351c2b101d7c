//! `/openapi/v2` as protobuf (gnostic's messages): what kubectl asks for when it validates a `List` by itself.
//!
//! Definitions are encoded whole; of paths what clients look at: parameters, media types and extensions of each operation.

use serde_json::Value;

/// The media type asked for.
pub(crate) const ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The media type answered with: `@` is not allowed there.
pub(crate) const ANSWERED: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// How a JSON field becomes a protobuf field.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Int,
    Double,
    Texts,
    /// Any JSON, as YAML text.
    Any,
    Anys,
    Message(&'static Message),
    Messages(&'static Message),
    /// A message in a message, at this number: wrappers and choices.
    Within(u32, &'static Message),
    /// A text, or texts, as field 1 of a message.
    TextsWithin,
    /// A map as a message with, at this number, repeated pairs of name (1) and message (2).
    Named(u32, &'static Message),
    /// `additionalProperties`: a schema (1) or a flag (2).
    Additional,
    /// Parameters: a body parameter, or one of several others, each in its wrappers.
    Parameters,
}

/// A message: its fields, and the number of its `x-` extensions.
struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    extensions: u32,
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Kind::Text),
        ("info", 2, Kind::Message(&INFO)),
        ("paths", 8, Kind::Named(2, &PATH)),
        ("definitions", 9, Kind::Named(1, &SCHEMA)),
    ],
    extensions: 16,
};

static INFO: Message = Message { fields: &[("title", 1, Kind::Text), ("version", 2, Kind::Text)], extensions: 7 };

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Kind::Text),
        ("format", 2, Kind::Text),
        ("title", 3, Kind::Text),
        ("description", 4, Kind::Text),
        ("default", 5, Kind::Any),
        ("multipleOf", 6, Kind::Double),
        ("maximum", 7, Kind::Double),
        ("exclusiveMaximum", 8, Kind::Flag),
        ("minimum", 9, Kind::Double),
        ("exclusiveMinimum", 10, Kind::Flag),
        ("maxLength", 11, Kind::Int),
        ("minLength", 12, Kind::Int),
        ("pattern", 13, Kind::Text),
        ("maxItems", 14, Kind::Int),
        ("minItems", 15, Kind::Int),
        ("uniqueItems", 16, Kind::Flag),
        ("maxProperties", 17, Kind::Int),
        ("minProperties", 18, Kind::Int),
        ("required", 19, Kind::Texts),
        ("enum", 20, Kind::Anys),
        ("additionalProperties", 21, Kind::Additional),
        ("type", 22, Kind::TextsWithin),
        ("items", 23, Kind::Within(1, &SCHEMA)),
        ("allOf", 24, Kind::Messages(&SCHEMA)),
        ("properties", 25, Kind::Named(1, &SCHEMA)),
    ],
    extensions: 31,
};

static PATH: Message = Message {
    fields: &[
        ("get", 2, Kind::Message(&OPERATION)),
        ("put", 3, Kind::Message(&OPERATION)),
        ("post", 4, Kind::Message(&OPERATION)),
        ("delete", 5, Kind::Message(&OPERATION)),
        ("options", 6, Kind::Message(&OPERATION)),
        ("head", 7, Kind::Message(&OPERATION)),
        ("patch", 8, Kind::Message(&OPERATION)),
        ("parameters", 9, Kind::Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("produces", 6, Kind::Texts),
        ("consumes", 7, Kind::Texts),
        ("parameters", 8, Kind::Parameters),
        ("schemes", 10, Kind::Texts),
        ("deprecated", 11, Kind::Flag),
    ],
    extensions: 13,
};

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 5, Kind::Message(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("format", 7, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: 23,
};

/// Path and header parameters have the same numbers.
static OTHER_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("format", 6, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: 22,
};

static REFERENCE: Message =
    Message { fields: &[("$ref", 1, Kind::Text), ("description", 2, Kind::Text)], extensions: 0 };

/// Encodes a document.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    message(&DOCUMENT, document)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    varint(out, u64::from(number << 3 | 2));
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn integer(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number << 3));
    varint(out, value);
}

fn wrapped(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    bytes(&mut out, number, content);
    out
}

fn any(value: &Value) -> Vec<u8> {
    wrapped(2, value.to_string().as_bytes())
}

fn pair(name: &str, content: &[u8]) -> Vec<u8> {
    let mut out = wrapped(1, name.as_bytes());
    bytes(&mut out, 2, content);
    out
}

fn message(of: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, number, kind) in of.fields {
        if let Some(value) = value.get(name) {
            field(&mut out, *number, *kind, value);
        }
    }
    if of.extensions > 0 {
        for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
            bytes(&mut out, of.extensions, &pair(name, &any(value)));
        }
    }
    out
}

fn field(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value) {
    let texts = || match value {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect::<Vec<_>>(),
    };
    match kind {
        Kind::Text => bytes(out, number, value.as_str().unwrap_or("").as_bytes()),
        Kind::Flag => integer(out, number, value.as_bool().unwrap_or(false).into()),
        Kind::Int => integer(out, number, value.as_i64().unwrap_or(0) as u64),
        Kind::Double => {
            varint(out, u64::from(number << 3 | 1));
            out.extend_from_slice(&value.as_f64().unwrap_or(0.0).to_le_bytes());
        }
        Kind::Texts => texts().iter().for_each(|t| bytes(out, number, t.as_bytes())),
        Kind::Any => bytes(out, number, &any(value)),
        Kind::Anys => value.as_array().into_iter().flatten().for_each(|v| bytes(out, number, &any(v))),
        Kind::Message(of) => bytes(out, number, &message(of, value)),
        Kind::Messages(of) => value.as_array().into_iter().flatten().for_each(|v| bytes(out, number, &message(of, v))),
        Kind::Within(inner, of) => bytes(out, number, &wrapped(inner, &message(of, value))),
        Kind::TextsWithin => {
            let mut inside = Vec::new();
            texts().iter().for_each(|t| bytes(&mut inside, 1, t.as_bytes()));
            bytes(out, number, &inside);
        }
        Kind::Named(inner, of) => {
            let mut inside = Vec::new();
            for (name, value) in value.as_object().into_iter().flatten() {
                bytes(&mut inside, inner, &pair(name, &message(of, value)));
            }
            bytes(out, number, &inside);
        }
        Kind::Additional => match value.as_bool() {
            Some(flag) => bytes(out, number, &[2 << 3, flag.into()]),
            None => bytes(out, number, &wrapped(1, &message(&SCHEMA, value))),
        },
        Kind::Parameters => value.as_array().into_iter().flatten().for_each(|v| bytes(out, number, &parameter(v))),
    }
}

fn parameter(value: &Value) -> Vec<u8> {
    if value.get("$ref").is_some() {
        return wrapped(2, &message(&REFERENCE, value));
    }
    let other = |number, of| wrapped(2, &wrapped(number, &message(of, value)));
    let one = match value.get("in").and_then(Value::as_str) {
        Some("body") => wrapped(1, &message(&BODY_PARAMETER, value)),
        Some("query") => other(3, &QUERY_PARAMETER),
        Some("path") => other(4, &OTHER_PARAMETER),
        _ => other(1, &OTHER_PARAMETER),
    };
    wrapped(1, &one)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_has_gnostics_numbers() {
        let document = json!({"definitions": {"a": {"type": "object", "x-k": 1}}});
        // 9 {1 {1: "a", 2 {22 {1: "object"}, 31 {1: "x-k", 2 {2: "1"}}}}}
        let extension = [&[10, 3][..], b"x-k", &[18, 3, 18, 1], b"1"].concat();
        let schema = [&[0xb2, 1, 8, 10, 6][..], b"object", &[0xfa, 1, 10], &extension].concat();
        let named = [&[10, 1][..], b"a", &[18, schema.len() as u8], &schema].concat();
        let inside = [&[10, named.len() as u8][..], &named].concat();
        assert_eq!(encode(&document), [&[74, inside.len() as u8][..], &inside].concat());
    }
}
