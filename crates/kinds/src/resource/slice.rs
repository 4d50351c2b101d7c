//! ResourceSlice.

use meta::Object;
use registry::{KindRow, SelectableField};
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static SLICE: Standard = Standard {
    rules: rules::resource::slice::RULES,
    generation: true,
    fields: &[
        SelectableField::path("spec.nodeName", &["spec", "nodeName"]),
        SelectableField::path("spec.driver", &["spec", "driver"]),
    ],
    columns: &[NAME, text("Node"), text("Driver"), text("Pool"), AGE],
    cells,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "ResourceSlice", "resourceslices", SLICE.main()).cluster_scoped()
}

fn cells(slice: &Object, now: i64) -> Vec<Value> {
    vec![
        slice.name().into(),
        slice.get_str(&["spec", "nodeName"]).into(),
        slice.get_str(&["spec", "driver"]).into(),
        slice.get_str(&["spec", "pool", "name"]).into(),
        age(slice, now).into(),
    ]
}
