//! PriorityClass.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, boolean, int, text};
use crate::standard::Standard;

static CLASS: Standard = Standard {
    rules: rules::scheduling::priority_class::RULES,
    generation: true,
    generation_moves: false,
    columns: &[NAME, int("Value"), boolean("Global-Default"), AGE, text("PreemptionPolicy")],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "PriorityClass", "priorityclasses", CLASS.main()).cluster_scoped().short(&["pc"])
}

fn cells(class: &Object, now: i64) -> Vec<Value> {
    vec![
        class.name().into(),
        class.get_i64(&["value"]).unwrap_or(0).into(),
        class.get_bool(&["globalDefault"]).unwrap_or(false).into(),
        age(class, now).into(),
        class.get_str(&["preemptionPolicy"]).into(),
    ]
}
