//! Printer columns of a version.

use meta::Object;
use registry::Column;
use serde_json::Value;

use super::jsonpath::JsonPath;

/// One column with where its value is.
pub(super) struct PrinterColumn {
    column: Column,
    path: JsonPath,
}

fn kind(text: &str) -> &'static str {
    match text {
        "integer" => "integer",
        "number" => "number",
        "boolean" => "boolean",
        "date" => "date",
        _ => "string",
    }
}

/// The columns of a version; without any there is `Age`.
pub(super) fn of_version(version: &Value) -> Vec<PrinterColumn> {
    let listed = version.get("additionalPrinterColumns").and_then(Value::as_array);
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let columns: Vec<PrinterColumn> = listed
        .into_iter()
        .flatten()
        .filter_map(|c| {
            let mut column = Column::new(&text(c, "name"), kind(&text(c, "type"))).describe(&text(c, "description"));
            column.priority =
                c.get("priority").and_then(Value::as_i64).and_then(|p| i32::try_from(p).ok()).unwrap_or(0);
            Some(PrinterColumn { column, path: JsonPath::parse(&text(c, "jsonPath"))? })
        })
        .collect();
    if !columns.is_empty() {
        return columns;
    }
    let age = Column::new("Age", "date");
    JsonPath::parse(".metadata.creationTimestamp").map(|path| PrinterColumn { column: age, path }).into_iter().collect()
}

/// The heads, `Name` first.
pub(super) fn heads(columns: &[PrinterColumn]) -> Vec<Column> {
    std::iter::once(Column::name()).chain(columns.iter().map(|c| c.column.clone())).collect()
}

/// The cells of an object.
pub(super) fn cells(columns: &[PrinterColumn], object: &Object, now: i64) -> Vec<Value> {
    let tree = Value::from(object.clone());
    let mut all = vec![object.name().into()];
    all.extend(columns.iter().map(|c| cell(c, &tree, now)));
    all
}

fn cell(column: &PrinterColumn, tree: &Value, now: i64) -> Value {
    let found = column.path.find(tree);
    let Some(first) = found.first() else { return Value::Null };
    match (column.column.kind, *first) {
        ("integer", value) => {
            value.as_i64().or_else(|| value.as_f64().map(|f| f as i64)).map_or(Value::Null, Into::into)
        }
        ("number", value) => value.as_f64().map_or(Value::Null, Into::into),
        ("boolean", value) => value.as_bool().map_or(Value::Null, Into::into),
        ("date", Value::String(text)) => kinds::printer::since(text, now).into(),
        ("date", _) => "<unknown>".into(),
        (_, _) if found.len() > 1 => {
            let shown: Vec<String> = found.iter().map(|v| text(v)).collect();
            shown.join(",").into()
        }
        (_, value) => text(value).into(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
