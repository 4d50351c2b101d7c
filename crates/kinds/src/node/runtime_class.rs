//! RuntimeClass.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static CLASS: Standard = Standard {
    rules: rules::node::runtime_class::RULES,
    create_on_update: true,
    unconditional_update: false,
    columns: &[NAME, text("Handler"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "RuntimeClass", "runtimeclasses", CLASS.main()).cluster_scoped()
}

fn cells(class: &Object, now: i64) -> Vec<Value> {
    vec![class.name().into(), class.get_str(&["handler"]).into(), age(class, now).into()]
}
