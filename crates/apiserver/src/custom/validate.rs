//! Validation by a structural schema, in upstream's words.

use std::collections::HashMap;
use std::sync::Arc;

use meta::field::{Error, Path};
use parking_lot::Mutex;
use regex::Regex;
use serde_json::Value;

/// Compiled patterns of one definition.
#[derive(Default)]
pub(super) struct Patterns(Mutex<HashMap<String, Option<Arc<Regex>>>>);

impl Patterns {
    fn get(&self, pattern: &str) -> Option<Arc<Regex>> {
        let mut all = self.0.lock();
        all.entry(pattern.to_owned()).or_insert_with(|| Regex::new(&celx::from_re2(pattern)).ok().map(Arc::new)).clone()
    }
}

/// Finds what is wrong with a value.
pub(super) struct Validator<'a> {
    pub patterns: &'a Patterns,
    pub errors: Vec<Error>,
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The keys of a list that is a map; none of another.
fn map_keys(schema: &Value) -> Vec<&str> {
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let keys = keys.filter(|_| schema.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("map"));
    keys.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn child(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") }
}

impl Validator<'_> {
    fn invalid(&mut self, path: &str, value: &Value, detail: String) {
        self.errors.push(Error::invalid(&Path::new(path), value.clone(), detail));
    }

    fn fits(&self, value: &Value, schema: &Value) -> bool {
        let mut inner = Validator { patterns: self.patterns, errors: Vec::new() };
        inner.check(value, None, schema, ("", false));
        inner.errors.is_empty()
    }

    /// Checks a value. `resource` leaves `apiVersion`, `kind` and `metadata` alone, which are checked elsewhere. What an update
    /// did not change is let pass, whatever is wrong with it: objects must not become stuck when their definition gets stricter.
    pub fn check(&mut self, value: &Value, old: Option<&Value>, schema: &Value, (path, resource): (&str, bool)) {
        if old == Some(value) {
            return;
        }
        if value.is_null() && schema.get("nullable").and_then(Value::as_bool).unwrap_or(false) {
            return;
        }
        if !self.check_type(value, schema, path) {
            return;
        }
        self.check_enum(value, schema, path);
        match value {
            Value::String(text) => self.check_string(text, value, schema, path),
            Value::Number(_) => self.check_number(value, schema, path),
            Value::Array(items) => self.check_array(items, value, old.and_then(Value::as_array), schema, path),
            Value::Object(map) => self.check_object((map, value), old, schema, path, resource),
            _ => {}
        }
        self.check_combined(value, schema, path);
    }

    fn check_type(&mut self, value: &Value, schema: &Value, path: &str) -> bool {
        let wanted = schema.get("type").and_then(Value::as_str).unwrap_or("");
        if schema.get("x-kubernetes-int-or-string").and_then(Value::as_bool).unwrap_or(false) {
            if matches!(type_name(value), "integer" | "string") {
                return true;
            }
            let detail = format!("{path} in body must be of type integer,string: {:?}", type_name(value));
            self.errors.push(Error::type_invalid(&Path::new(path), type_name(value), detail));
            return false;
        }
        let is = type_name(value);
        // Beyond 64 bits there are no integers.
        let whole = value.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() < 9.3e18);
        let fits = wanted.is_empty()
            || wanted == is
            || (wanted == "number" && is == "integer")
            || (wanted == "integer" && is == "number" && whole);
        if !fits {
            let detail = format!("{path} in body must be of type {wanted}: {is:?}");
            self.errors.push(Error::type_invalid(&Path::new(path), is, detail));
        }
        fits
    }

    fn check_enum(&mut self, value: &Value, schema: &Value, path: &str) {
        let Some(allowed) = schema.get("enum").and_then(Value::as_array) else { return };
        if allowed.contains(value) {
            return;
        }
        let shown: Vec<String> =
            allowed.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        self.errors.push(Error::not_supported(&Path::new(path), value.clone(), &shown));
    }

    fn check_string(&mut self, text: &str, value: &Value, schema: &Value, path: &str) {
        let length = text.chars().count() as u64;
        let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
        if let Some(max) = limit("maxLength").filter(|max| length > *max) {
            self.errors.push(Error::too_long(&Path::new(path), usize::try_from(max).unwrap_or(usize::MAX)));
        }
        if let Some(min) = limit("minLength").filter(|min| length < *min) {
            self.invalid(path, value, format!("{path} in body should be at least {min} chars long"));
        }
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && self.patterns.get(pattern).is_some_and(|r| !r.is_match(text))
        {
            self.invalid(path, value, format!("{path} in body should match '{pattern}'"));
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && !format_fits(format, text)
        {
            self.invalid(path, value, format!("{path} in body must be of type {format}: {text:?}"));
        }
    }

    fn check_number(&mut self, value: &Value, schema: &Value, path: &str) {
        let number = value.as_f64().unwrap_or(0.0);
        let exclusive = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
        if let Some(limit) = schema.get("minimum") {
            let bound = limit.as_f64().unwrap_or(f64::MIN);
            if exclusive("exclusiveMinimum") && number <= bound {
                self.invalid(path, value, format!("{path} in body should be greater than {limit}"));
            } else if number < bound {
                self.invalid(path, value, format!("{path} in body should be greater than or equal to {limit}"));
            }
        }
        if let Some(limit) = schema.get("maximum") {
            let bound = limit.as_f64().unwrap_or(f64::MAX);
            if exclusive("exclusiveMaximum") && number >= bound {
                self.invalid(path, value, format!("{path} in body should be less than {limit}"));
            } else if number > bound {
                self.invalid(path, value, format!("{path} in body should be less than or equal to {limit}"));
            }
        }
        if let Some(step) = schema.get("multipleOf").and_then(Value::as_f64).filter(|s| *s > 0.0)
            && (number / step).fract() != 0.0
        {
            self.invalid(path, value, format!("{path} in body should be a multiple of {step}"));
        }
    }

    fn check_array(&mut self, items: &[Value], value: &Value, old: Option<&Vec<Value>>, schema: &Value, path: &str) {
        let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
        let length = items.len() as u64;
        if let Some(max) = limit("maxItems").filter(|max| length > *max) {
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            self.errors.push(Error::too_many(&Path::new(path), items.len(), max));
        }
        if let Some(min) = limit("minItems").filter(|min| length < *min) {
            self.invalid(path, value, format!("{path} in body should have at least {min} items"));
        }
        self.check_uniqueness(items, schema, path);
        if let Some(child) = schema.get("items").filter(|i| i.is_object()) {
            let keys = map_keys(schema);
            for (at, item) in items.iter().enumerate() {
                // Items are known again only by their keys.
                let same = |other: &&Value| keys.iter().all(|key| other.get(*key) == item.get(*key));
                let before = old.filter(|_| !keys.is_empty()).and_then(|old| old.iter().find(same));
                self.check(item, before, child, (&format!("{path}[{at}]"), false));
            }
        }
    }

    fn check_uniqueness(&mut self, items: &[Value], schema: &Value, path: &str) {
        let kind = schema.get("x-kubernetes-list-type").and_then(Value::as_str).unwrap_or("");
        let keys: Vec<&str> = match kind {
            "set" => Vec::new(),
            "map" => map_keys(schema),
            _ => return,
        };
        let mut seen: Vec<Value> = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let identity = if kind == "set" {
                item.clone()
            } else {
                Value::Object(keys.iter().filter_map(|k| Some(((*k).to_owned(), item.get(*k)?.clone()))).collect())
            };
            if seen.contains(&identity) {
                self.errors.push(Error::duplicate(&Path::new(&format!("{path}[{at}]")), identity));
            } else {
                seen.push(identity);
            }
        }
    }

    fn check_object(
        &mut self,
        (map, value): (&serde_json::Map<String, Value>, &Value),
        old: Option<&Value>,
        schema: &Value,
        path: &str,
        resource: bool,
    ) {
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(key) {
                self.errors.push(Error::required(&Path::new(&child(path, key)), ""));
            }
        }
        let limit = |key: &str| schema.get(key).and_then(Value::as_u64);
        let length = map.len() as u64;
        if let Some(max) = limit("maxProperties").filter(|max| length > *max) {
            self.invalid(path, value, format!("{path} in body should have at most {max} properties"));
        }
        if let Some(min) = limit("minProperties").filter(|min| length < *min) {
            self.invalid(path, value, format!("{path} in body should have at least {min} properties"));
        }
        let additional = schema.get("additionalProperties").filter(|a| a.is_object());
        for (key, item) in map {
            if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            if let Some(found) = schema.get("properties").and_then(|p| p.get(key)).or(additional) {
                self.check(item, old.and_then(|old| old.get(key)), found, (&child(path, key), false));
            }
        }
    }

    fn check_combined(&mut self, value: &Value, schema: &Value, path: &str) {
        let list = |key: &str| schema.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        for part in list("allOf") {
            self.check(value, None, &part, (path, false));
        }
        let any = list("anyOf");
        if !any.is_empty() && !any.iter().any(|part| self.fits(value, part)) {
            self.invalid(path, value, format!("{path:?} must validate at least one schema (anyOf)"));
        }
        let one = list("oneOf");
        if !one.is_empty() && one.iter().filter(|part| self.fits(value, part)).count() != 1 {
            self.invalid(path, value, format!("{path:?} must validate one and only one schema (oneOf)"));
        }
        if let Some(not) = schema.get("not").filter(|n| n.is_object())
            && self.fits(value, not)
        {
            self.invalid(path, value, format!("{path:?} must not validate the schema (not)"));
        }
    }
}

/// Formats that upstream checks; unknown ones are taken.
fn format_fits(format: &str, text: &str) -> bool {
    match format {
        "date-time" => meta::time::parse(text).is_ok(),
        "date" => text.len() == 10 && meta::time::parse(&format!("{text}T00:00:00Z")).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uuid" => {
            let parts: Vec<usize> = text.split('-').map(str::len).collect();
            parts == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
        }
        "byte" => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).is_ok(),
        _ => true,
    }
}
