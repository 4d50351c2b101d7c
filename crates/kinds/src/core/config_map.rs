//! ConfigMap.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static CONFIG_MAP: Standard =
    Standard { rules: rules::core::config_map::RULES, columns: &[NAME, text("Data"), AGE], cells, ..Standard::PLAIN };

/// The row.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "ConfigMap", "configmaps", CONFIG_MAP.main()).short(&["cm"])
}

fn cells(map: &Object, now: i64) -> Vec<Value> {
    let count = |field: &str| map.get(&[field]).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    vec![map.name().into(), (count("data") + count("binaryData")).into(), age(map, now).into()]
}
