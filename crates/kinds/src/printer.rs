//! Columns and cells of server-side tables, with what several kinds' printers share.

use meta::Object;
use registry::Column;
use serde_json::Value;

/// A column, as a constant.
#[derive(Debug, Clone, Copy)]
pub struct Col {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    priority: i32,
}

impl Col {
    /// The form that the registry takes.
    pub fn column(&self) -> Column {
        let mut column = Column::new(self.name, self.kind);
        column.format = self.format;
        column.priority = self.priority;
        column
    }

    /// Only with `-o wide`.
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    /// Marks a name.
    pub const fn named(mut self) -> Self {
        self.format = "name";
        self
    }
}

/// The column `Name`.
pub const NAME: Col = text("Name").named();
/// The column `Age`.
pub const AGE: Col = text("Age");
/// Wide: names of the containers of a template.
pub const CONTAINERS: Col = text("Containers").wide();
/// Wide: their images.
pub const IMAGES: Col = text("Images").wide();
/// Wide: a selector.
pub const SELECTOR: Col = text("Selector").wide();

/// A string column.
pub const fn text(name: &'static str) -> Col {
    Col { name, kind: "string", format: "", priority: 0 }
}

/// An integer column.
pub const fn int(name: &'static str) -> Col {
    Col { name, kind: "integer", format: "", priority: 0 }
}

/// A boolean column.
pub const fn boolean(name: &'static str) -> Col {
    Col { name, kind: "boolean", format: "", priority: 0 }
}

/// What upstream prints for an absent value.
pub const NONE: &str = "<none>";
/// What upstream prints for a value that cannot be known.
pub const UNKNOWN: &str = "<unknown>";
/// What upstream prints for a value that was never set.
pub const UNSET: &str = "<unset>";

/// Cells of kinds that only show Name and Age.
pub fn name_and_age(object: &Object, now: i64) -> Vec<Value> {
    vec![object.name().into(), age(object, now).into()]
}

/// The time since creation, as kubectl shows it.
pub fn age(object: &Object, now: i64) -> String {
    since(object.meta_str("creationTimestamp"), now)
}

/// The time since an RFC 3339 timestamp; `<unknown>` when there is none.
pub fn since(timestamp: &str, now: i64) -> String {
    match meta::time::parse(timestamp) {
        Ok(then) => human(now - then.as_second()),
        Err(_) => UNKNOWN.to_owned(),
    }
}

/// Upstream's `duration.HumanDuration`: two units at most, coarser as it grows.
pub fn human(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match seconds {
        // Clocks of two machines may differ a little.
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 | 0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s / MINUTE % 60, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s / HOUR % 24, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s / DAY % 365, "d"),
        s => format!("{}y", s / YEAR),
    }
}

/// The list at a path, empty when absent.
pub fn list<'a>(object: &'a Object, path: &[&str]) -> &'a [Value] {
    object.get(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A string inside a value, empty when absent.
pub fn str_in<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

/// The integer at a path, 0 when absent.
pub fn int_at(object: &Object, path: &[&str]) -> i64 {
    object.get_i64(path).unwrap_or(0)
}

/// A string, or `<none>` for the empty one.
pub fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// Names and images of a template's containers, each joined by commas.
pub fn containers_and_images(object: &Object, containers: &[&str]) -> [Value; 2] {
    let join = |field: &str| -> Value {
        let all: Vec<&str> = list(object, containers).iter().map(|c| str_in(c, field)).collect();
        all.join(",").into()
    };
    [join("name"), join("image")]
}

/// A map as `a=b,c=d`, `<none>` when empty.
pub fn format_map(map: Option<&Value>) -> String {
    let entries: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    if entries.is_empty() { NONE.to_owned() } else { entries.join(",") }
}

/// A label selector as kubectl prints it: `<none>` when absent or empty.
pub fn format_selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector.filter(|s| !s.is_null()) else { return NONE.to_owned() };
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", value.as_str().unwrap_or(""))));
    }
    for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let key = str_in(expression, "key");
        let mut values: Vec<&str> = expression
            .get("values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match str_in(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        };
        parts.push((key.to_owned(), text));
    }
    if parts.is_empty() {
        return NONE.to_owned();
    }
    parts.sort();
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}
