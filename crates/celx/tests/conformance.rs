//! The published conformance cases of the language, where they concern what Kubernetes has of it.
//!
//! The cases (`tests/simple/testdata/*.textproto` of the repository google/cel-spec) are not part of this repository: the
//! variable `CEL_SPEC` names a folder with them, and without it the test says so and passes.

use std::collections::BTreeMap;
use std::path::Path;

use celx::time::{Span, Stamp};
use celx::{Env, Key, Map, Meter, Type, Value};

/// Files about parts that Kubernetes' environments do not have: protocol buffers, enums, and other extensions.
const NOT_OURS: [&str; 10] = [
    "bindings_ext",
    "block_ext",
    "encoders_ext",
    "enums",
    "math_ext",
    "proto2",
    "proto2_ext",
    "proto3",
    "unknowns",
    "wrappers",
];
/// Parts of cases that need protocol buffers or other extensions.
const FOREIGN: [&str; 7] =
    ["TestAllTypes", "google.protobuf", "cel.bind", "base64.", "math.", "GlobalEnum", "proto.getExt"];
/// Cases that ask for less or other than Kubernetes' environments do, with the reason.
const ELSEWHERE: &[(&str, &str)] = &[
    ("basic/functions/unbound", "an unknown function does not compile"),
    ("dynamic/value_null/literal", "there are no protocol buffers"),
    ("comparisons/eq_literal/not_eq_list_mixed_type_numbers", "lists of different numbers are not compared"),
    ("namespace/", "Kubernetes' environments have no container"),
    ("fields/quoted_map_fields/", "names in backquotes are not switched on"),
    ("network_ext/ipv4/ipv4_equals_ipv6", "Kubernetes refuses IPv4 addresses in IPv6 form"),
    ("network_ext/ipv4/ipv4_not_equals_ipv6", "Kubernetes refuses IPv4 addresses in IPv6 form"),
    ("string_ext/format/positive infinity", "a later version of the strings extension"),
    ("string_ext/format/negative infinity", "a later version of the strings extension"),
    ("string_ext/format/dyntype NaN/infinity", "a later version of the strings extension"),
    ("timestamps/timestamp_conversions/toString_timestamp_nanos", "our clock ends a day before the year 10000"),
];

/// A message of a text file: fields in order, each with text or a message.
#[derive(Debug, Clone, Default)]
struct Message(Vec<(String, Field)>);

#[derive(Debug, Clone)]
enum Field {
    Text(Vec<u8>),
    Word(String),
    Message(Message),
}

impl Message {
    fn all(&self, name: &str) -> impl Iterator<Item = &Message> {
        self.0.iter().filter(move |(n, _)| n == name).filter_map(|(_, field)| match field {
            Field::Message(message) => Some(message),
            _ => None,
        })
    }
    fn get(&self, name: &str) -> Option<&Message> {
        self.all(name).next()
    }
    fn field(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, field)| field)
    }
    fn text(&self, name: &str) -> String {
        match self.field(name) {
            Some(Field::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            Some(Field::Word(word)) => word.clone(),
            _ => String::new(),
        }
    }
}

/// A reader of protocol buffers' text format, as far as the cases use it.
struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self) {
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'#' => {
                    while self.text.get(self.at).is_some_and(|b| *b != b'\n') {
                        self.at += 1;
                    }
                }
                b' ' | b'\n' | b'\t' | b'\r' | b',' | b';' => self.at += 1,
                _ => return,
            }
        }
    }
    fn peek(&mut self) -> Option<u8> {
        self.skip();
        self.text.get(self.at).copied()
    }
    fn word(&mut self) -> String {
        self.skip();
        let start = self.at;
        while self.text.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || b"_.-+".contains(b)) {
            self.at += 1;
        }
        assert!(self.at > start, "a word at {}", self.at);
        String::from_utf8_lossy(&self.text[start..self.at]).into_owned()
    }
    fn string(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(quote @ (b'"' | b'\'')) = self.peek() {
            self.at += 1;
            loop {
                let byte = self.text[self.at];
                self.at += 1;
                match byte {
                    b if b == quote => break,
                    b'\\' => self.escape(&mut out),
                    other => out.push(other),
                }
            }
        }
        out
    }
    fn escape(&mut self, out: &mut Vec<u8>) {
        let byte = self.text[self.at];
        self.at += 1;
        let mut digits = |radix: u32, most: usize| {
            let start = self.at;
            while self.at - start < most && (self.text[self.at] as char).is_digit(radix) {
                self.at += 1;
            }
            u32::from_str_radix(std::str::from_utf8(&self.text[start..self.at]).unwrap(), radix).unwrap()
        };
        match byte {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'v' => out.push(11),
            b'x' | b'X' => out.push(digits(16, 2) as u8),
            b'u' => out.extend(char::from_u32(digits(16, 4)).unwrap().to_string().bytes()),
            b'U' => out.extend(char::from_u32(digits(16, 8)).unwrap().to_string().bytes()),
            b'0'..=b'7' => {
                self.at -= 1;
                let start = self.at;
                while self.at - start < 3 && (b'0'..=b'7').contains(&self.text[self.at]) {
                    self.at += 1;
                }
                let octal = std::str::from_utf8(&self.text[start..self.at]).unwrap();
                out.push(u32::from_str_radix(octal, 8).unwrap() as u8);
            }
            other => out.push(other),
        }
    }
    fn value(&mut self) -> Field {
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                Field::Message(self.message())
            }
            Some(b'"' | b'\'') => Field::Text(self.string()),
            _ => Field::Word(self.word()),
        }
    }
    fn message(&mut self) -> Message {
        let mut fields = Vec::new();
        loop {
            match self.peek() {
                None => return Message(fields),
                Some(b'}') => {
                    self.at += 1;
                    return Message(fields);
                }
                Some(b'[') => {
                    let start = self.at;
                    while self.text[self.at] != b']' {
                        self.at += 1;
                    }
                    self.at += 1;
                    let name = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
                    self.field(name, &mut fields);
                }
                Some(_) => {
                    let name = self.word();
                    self.field(name, &mut fields);
                }
            }
        }
    }
    fn field(&mut self, name: String, fields: &mut Vec<(String, Field)>) {
        if self.peek() == Some(b':') {
            self.at += 1;
        }
        if self.peek() == Some(b'[') {
            self.at += 1;
            while self.peek() != Some(b']') {
                let value = self.value();
                fields.push((name.clone(), value));
            }
            self.at += 1;
            return;
        }
        let value = self.value();
        fields.push((name, value));
    }
}

/// The type of a declaration; `None` for types that we do not have.
fn type_of(message: &Message) -> Option<Type> {
    let (name, field) = message.0.first()?;
    Some(match (name.as_str(), field) {
        ("primitive", Field::Word(word)) => match word.as_str() {
            "BOOL" => Type::BOOL,
            "INT64" => Type::INT,
            "UINT64" => Type::UINT,
            "DOUBLE" => Type::DOUBLE,
            "STRING" => Type::STR,
            _ => Type::BYTES,
        },
        ("well_known", Field::Word(word)) => match word.as_str() {
            "TIMESTAMP" => Type::named("timestamp"),
            "DURATION" => Type::named("duration"),
            _ => return None,
        },
        ("dyn", _) => Type::DYN,
        ("null", _) => Type::NULL,
        ("type", _) => Type::TYPE,
        ("list_type", Field::Message(list)) => Type::list(list.get("elem_type").map_or(Some(Type::DYN), type_of)?),
        ("map_type", Field::Message(map)) => {
            Type::map(map.get("key_type").and_then(type_of)?, map.get("value_type").and_then(type_of)?)
        }
        _ => return None,
    })
}

/// A value of a case; `None` for what we do not have.
fn value_of(message: &Message) -> Option<Value<'static>> {
    let Some((name, field)) = message.0.first() else { return Some(Value::Null) };
    let number = |field: &Field| match field {
        Field::Word(word) => word.clone(),
        _ => String::new(),
    };
    Some(match (name.as_str(), field) {
        ("null_value", _) => Value::Null,
        ("bool_value", field) => Value::Bool(number(field) == "true"),
        ("int64_value", field) => Value::Int(integer(&number(field))?),
        ("uint64_value", field) => Value::Uint(number(field).parse().ok()?),
        ("double_value", field) => Value::Double(double(&number(field))?),
        ("string_value", Field::Text(text)) => Value::text(String::from_utf8(text.clone()).ok()?),
        ("bytes_value", Field::Text(text)) => Value::Bytes(text.clone().into()),
        ("type_value", Field::Text(text)) => Value::Type(String::from_utf8_lossy(text).into()),
        ("list_value", Field::Message(list)) => {
            Value::list(list.all("values").map(value_of).collect::<Option<Vec<_>>>()?)
        }
        ("map_value", Field::Message(map)) => {
            let mut entries = BTreeMap::new();
            for entry in map.all("entries") {
                let key = value_of(entry.get("key")?)?.key().ok()?;
                entries.insert(key, value_of(entry.get("value")?)?);
            }
            Value::Map(Map::Own(entries.into()))
        }
        ("object_value", Field::Message(object)) => {
            let (name, field) = object.0.first()?;
            let Field::Message(parts) = field else { return None };
            let part = |name: &str| parts.text(name).parse::<i64>().unwrap_or(0);
            let nanos = part("seconds").checked_mul(1_000_000_000)?.checked_add(part("nanos"));
            match name.as_str() {
                "[type.googleapis.com/google.protobuf.Duration]" => Value::Duration(Span(nanos?)),
                "[type.googleapis.com/google.protobuf.Timestamp]" => {
                    Value::Timestamp(Stamp::from_seconds(part("seconds")).ok()?.plus(part("nanos")).ok()?)
                }
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn integer(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn double(text: &str) -> Option<f64> {
    match text {
        "inf" | "infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        "nan" => Some(f64::NAN),
        other => other.trim_end_matches('f').parse().ok(),
    }
}

/// A value as text with its types, to compare by.
fn show(value: &Value<'_>) -> String {
    match value {
        Value::List(_) => {
            let items = value.items().unwrap_or_default();
            format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        Value::Map(map) => {
            let mut entries: Vec<String> = map
                .entries()
                .unwrap_or_default()
                .iter()
                .map(|(key, value)| format!("{}: {}", show(&Key::value(key)), show(value)))
                .collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Double(number) => format!("{number:?}d"),
        Value::Str(text) => format!("{:?}", text.as_str()),
        Value::Duration(span) => format!("duration {}", span.0),
        Value::Timestamp(stamp) => format!("timestamp {}", stamp.0),
        Value::Optional(Some(value)) => format!("optional {}", show(value)),
        other => format!("{other:?}"),
    }
}

/// What came of a case.
enum Outcome {
    Passed,
    Skipped,
    Failed(String),
}

fn run(case: &Message) -> Outcome {
    let source = case.text("expr");
    let mut env = Env::new();
    let mut bound: Vec<Value<'static>> = Vec::new();
    let bindings: BTreeMap<String, Option<Value<'static>>> = case
        .all("bindings")
        .map(|b| (b.text("key"), b.get("value").and_then(|v| v.get("value")).and_then(value_of)))
        .collect();
    for declaration in case.all("type_env") {
        let Some(ident) = declaration.get("ident") else { return Outcome::Skipped };
        let Some(ty) = ident.get("type").and_then(type_of) else { return Outcome::Skipped };
        let name = declaration.text("name");
        let Some(value) = bindings.get(&name).cloned().unwrap_or(Some(Value::Null)) else { return Outcome::Skipped };
        env = env.with(&name, ty);
        bound.push(value);
    }
    let expected = case.get("value").or_else(|| case.get("typed_result").and_then(|t| t.get("result")));
    let error = case.get("eval_error").is_some() || case.get("any_eval_errors").is_some();
    let program = match env.compile(&source) {
        Ok(program) => program,
        Err(_) if error => return Outcome::Passed,
        // Kubernetes' environments refuse literals of mixed types, which other environments may take.
        Err(issues) if issues.to_string().contains("expected type '") => return Outcome::Skipped,
        // Here the check is part of the language: what does not pass it is not evaluated.
        Err(_) if case.text("disable_check") == "true" => return Outcome::Skipped,
        Err(issues) => return Outcome::Failed(format!("does not compile: {issues}")),
    };
    if case.text("check_only") == "true" {
        return Outcome::Passed;
    }
    let result = program.eval(&bound, &mut Meter::new(u64::MAX));
    match (result, expected) {
        (Err(_), _) if error => Outcome::Passed,
        (Err(failure), _) => Outcome::Failed(format!("fails: {failure}")),
        (Ok(_), _) if error && case.text("disable_check") == "true" => Outcome::Skipped,
        (Ok(value), _) if error => Outcome::Failed(format!("gives {} where an error is due", show(&value))),
        (Ok(value), expected) => {
            let Some(wanted) = expected.map_or(Some(Value::Bool(true)), value_of) else { return Outcome::Skipped };
            let (got, wanted) = (show(&value), show(&wanted));
            if got == wanted { Outcome::Passed } else { Outcome::Failed(format!("gives {got}, not {wanted}")) }
        }
    }
}

#[test]
fn published_cases() {
    let Ok(folder) = std::env::var("CEL_SPEC") else {
        eprintln!(
            "CEL_SPEC names no folder with google/cel-spec's tests/simple/testdata: the published cases are not run"
        );
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(Path::new(&folder)).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let (mut passed, mut skipped, mut failures) = (0, 0, Vec::new());
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "textproto")) {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if NOT_OURS.contains(&stem.as_str()) {
            continue;
        }
        let text = std::fs::read(path).unwrap();
        let file = Reader { text: &text, at: 0 }.message();
        for section in file.all("section") {
            for case in section.all("test") {
                let name = format!("{stem}/{}/{}", section.text("name"), case.text("name"));
                let whole = format!("{case:?}{}", case.text("expr"));
                let elsewhere = ELSEWHERE.iter().any(|(start, _)| name.starts_with(start));
                if elsewhere
                    || FOREIGN.iter().any(|f| whole.contains(f))
                        && !whole.contains("[type.googleapis.com/google.protobuf.")
                {
                    skipped += 1;
                    continue;
                }
                match run(case) {
                    Outcome::Passed => passed += 1,
                    Outcome::Skipped => skipped += 1,
                    Outcome::Failed(why) => failures.push(format!("{name}: {} {why}", case.text("expr"))),
                }
            }
        }
    }
    eprintln!("{passed} cases passed, {skipped} are not ours");
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}
