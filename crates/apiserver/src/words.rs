//! Upstream's words for bodies that cannot be read.

use meta::{GroupKind, GroupVersionKind, Object, Status, field};
use schema::codec::Error;
use serde_json::Value;

/// Bytes of a body that are shown of it at most.
const SHOWN: usize = 30;
/// Where upstream registers its kinds; its messages say so.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";
/// The Go struct that upstream reads kind and version into.
const TYPE_META: &str =
    "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";

/// The beginning of a body: as text when it looks like JSON, else in hexadecimal digits.
fn summary(body: &[u8]) -> String {
    use std::fmt::Write;
    let shown = &body[..body.len().min(SHOWN)];
    let more = if body.len() > SHOWN { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => {
            let hex = shown.iter().fold(String::new(), |mut text, byte| {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            });
            format!("{hex}{more}")
        }
    }
}

/// 400 for a body of which not even the kind is known.
pub(crate) fn unrecognized(into: &str, body: &[u8], error: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {into}): {error} ({})",
        summary(body)
    ))
}

/// 400 for a body whose kind is known.
pub(crate) fn unhandled(data: &GroupVersionKind, into: &str, error: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!("{} in version {:?} cannot be handled as a {into}: {error}", data.kind, data.version))
}

/// What no kind is registered for.
pub(crate) fn unregistered(api_version: &str, kind: &str) -> String {
    format!("no kind {kind:?} is registered for version {api_version:?} in scheme {SCHEME:?}")
}

/// Go's name of what a JSON text begins with.
fn go_kind(body: &[u8]) -> &'static str {
    match body.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'{') => "object",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// A codec's error as upstream puts it for the JSON text of a whole body.
fn json_words(text: &str, body: &[u8]) -> String {
    if text.contains("exceeded max depth") {
        let nested = body.iter().rev().find(|b| matches!(b, b'[' | b'{')).map_or('[', |b| char::from(*b));
        return text.replace("exceeded max depth", &format!("invalid character '{nested}' exceeded max depth"));
    }
    if text.contains("cannot unmarshal value into Go value of type struct") {
        let words = format!("json: cannot unmarshal {} into Go value of type {TYPE_META}", go_kind(body));
        return format!("couldn't get version/kind; json parse error: {words}");
    }
    text.replace("'\\0'", "'\\x00'").replace("'\\u{feff}'", "'ï'")
}

/// A YAML error in the words of Go's parser.
pub(crate) fn yaml_words(text: &str) -> String {
    let text = text.strip_prefix("error converting YAML to JSON: ").unwrap_or(text);
    if text.contains("repetition limit exceeded") {
        return "yaml: document contains excessive aliasing".to_owned();
    }
    let Some((message, rest)) = text.split_once(" at line ") else { return text.to_owned() };
    let line: usize = rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|l| l.parse().ok()).unwrap_or(1);
    // Its scanner counts lines from one, its parser from nought.
    let line = if message.contains("did not find expected") { line.saturating_sub(1) } else { line };
    let message = message.strip_prefix("yaml: ").unwrap_or(message);
    if line <= 1 { format!("yaml: {message}") } else { format!("yaml: line {line}: {message}") }
}

/// The 400 for a body that the codec refuses; `into` is the kind that the path wants.
pub(crate) fn undecodable(into: &GroupVersionKind, body: &[u8], error: &Error) -> Status {
    let kind = into.kind.as_str();
    match error {
        Error::NoEnvelope if body.is_empty() => unrecognized(kind, body, &"empty data"),
        Error::NoEnvelope | Error::MissingKind(_) | Error::MissingVersion(_) => unrecognized(kind, body, error),
        Error::UnknownKind { api_version, .. } if api_version.matches('/').count() > 1 => {
            unrecognized(kind, body, &format!("unexpected GroupVersion string: {api_version}"))
        }
        Error::UnknownKind { api_version, kind: given } => {
            let data = GroupVersionKind::from_api_version(api_version, given).unwrap_or_else(|_| into.clone());
            unhandled(&data, kind, &unregistered(api_version, given))
        }
        Error::Yaml(_) => unrecognized(kind, body, &yaml_words(&error.to_string())),
        Error::Json(text) if text.starts_with("couldn't get version/kind") => {
            unrecognized(kind, body, &json_words(text, body))
        }
        Error::Wire("unexpected EOF") if schema::codec::open_envelope(body).is_err() => {
            unrecognized(kind, body, &"unexpected EOF")
        }
        Error::Wire("unexpected EOF") => unhandled(into, kind, &"unexpected EOF"),
        _ => unhandled(into, kind, error),
    }
}

/// Go's import name of a group's internal types, as its conversion errors show it.
fn package(group: &str) -> &str {
    match group.split('.').next() {
        None | Some("" | "events") => "core",
        Some(first) => first,
    }
}

/// What is said of an object of another kind than the path's.
pub(crate) fn unconvertible(given: &GroupVersionKind, wanted: &GroupVersionKind) -> Status {
    let (from, to) = (&given.kind, &wanted.kind);
    let cause =
        format!("converting ({}.{from}) to ({}.{to}): unknown conversion", given.version, package(&wanted.group));
    unhandled(given, to, &cause)
}

/// Reads JSON of no known type; keys that are set twice are given, too.
///
/// # Errors
/// Go's words for malformed text.
pub(crate) fn read_json(body: &[u8]) -> Result<(Value, Vec<String>), String> {
    // The codec reads objects only; what goes before the text does not show in its words.
    let mut whole = Vec::with_capacity(body.len() + 6);
    whole.extend_from_slice(b"{\"\":");
    whole.extend_from_slice(body);
    whole.push(b'}');
    let failure = match schema::codec::decode_untyped_json(&whole) {
        Ok(mut decoded) => {
            let value = decoded.object.body.remove("").unwrap_or(Value::Null);
            if decoded.object.body.is_empty() {
                return Ok((value, decoded.strict));
            }
            return Err("invalid character ',' after top-level value".to_owned());
        }
        Err(error) => error.to_string(),
    };
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        // What is nested too deep need not end.
        Err(error) if error.is_eof() && !failure.contains("exceeded max depth") => {
            Err("unexpected end of JSON input".to_owned())
        }
        _ => Err(json_words(&failure, body).replace("after object key:value pair", "after top-level value")),
    }
}

/// What Go says when it wants another type.
pub(crate) fn not_a(value: &Value, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {wanted}", go_kind(value.to_string().as_bytes()))
}

/// Kind and version of options in a body: what does not fit is said as upstream does.
///
/// # Errors
/// 400 in upstream's words.
pub(crate) fn options_body(value: Value, wanted: &str) -> Result<Object, Status> {
    const OPTIONS_SCHEME: &str = "pkg/apis/meta/internalversion/scheme/register.go:27";
    let object = match value {
        Value::Null => Object::default(),
        Value::Object(body) => Object { body },
        other => {
            let words = not_a(&other, TYPE_META);
            return Err(Status::bad_request(format!("couldn't get version/kind; json parse error: {words}")));
        }
    };
    let (kind, version) = (object.kind(), object.api_version());
    if version.matches('/').count() > 1 {
        return Err(Status::bad_request(format!("unexpected GroupVersion string: {version}")));
    }
    if !kind.is_empty() && kind != wanted {
        return Err(Status::bad_request(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme {OPTIONS_SCHEME:?}"
        )));
    }
    Ok(object)
}

/// 422 for a patch whose outcome is no such object; `shown` is what upstream shows of it.
pub(crate) fn invalid_patch(shown: &str, cause: &dyn std::fmt::Display) -> Status {
    let path = field::Path::new("patch");
    Status::invalid(&GroupKind::new("", ""), "", &[field::Error::invalid(&path, shown, cause.to_string())])
}

/// A value as Go prints it with `%+v`.
pub(crate) fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{key}:{}", go_value(value)));
            format!("map[{}]", entries.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// 500 without a reason: what upstream makes of an error that none of its layers names.
pub(crate) fn nameless(message: impl Into<String>) -> Status {
    Status::failure(500, "", message)
}

/// An integer parameter, as Go's conversion reads it.
///
/// # Errors
/// 400 in the words of Go's `strconv`.
pub(crate) fn int_parameter(query: &crate::query::Query, key: &str) -> Result<Option<i64>, Status> {
    if !query.has(key) {
        return Ok(None);
    }
    let text = query.get(key);
    text.parse().map(Some).map_err(|_| Status::bad_request(number_words("ParseInt", text)))
}

/// What Go's `strconv` says of a text that is no number.
pub(crate) fn number_words(function: &str, text: &str) -> String {
    let digits = text.strip_prefix('-').filter(|_| function == "ParseInt").unwrap_or(text);
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let cause = if number { "value out of range" } else { "invalid syntax" };
    format!("strconv.{function}: parsing {text:?}: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_go_says() {
        for (body, words) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("[] x", "invalid character 'x' after top-level value"),
            ("1,\"a\":2", "invalid character ',' after top-level value"),
        ] {
            assert_eq!(read_json(body.as_bytes()).unwrap_err(), words, "{body}");
        }
        let (value, strict) = read_json(br#"{"a":{"b":1,"b":2}}"#).unwrap();
        assert_eq!((value["a"]["b"].as_i64(), strict), (Some(2), vec!["duplicate field \"a.b\"".to_owned()]));
        assert!(read_json("[".repeat(100_000).as_bytes()).unwrap_err().contains("exceeded max depth"));
        assert_eq!(
            yaml_words("yaml: mapping values are not allowed in this context at line 1 column 5"),
            "yaml: mapping values are not allowed in this context"
        );
        assert_eq!(number_words("ParseUint", "-1"), "strconv.ParseUint: parsing \"-1\": invalid syntax");
    }
}
