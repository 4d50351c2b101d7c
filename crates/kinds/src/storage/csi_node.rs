//! CSINode.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, int, list};
use crate::standard::Standard;

static NODE: Standard = Standard {
    rules: rules::storage::csi_node::RULES,
    unconditional_update: false,
    columns: &[NAME, int("Drivers"), AGE],
    cells,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "CSINode", "csinodes", NODE.main()).cluster_scoped()
}

fn cells(node: &Object, now: i64) -> Vec<Value> {
    vec![node.name().into(), list(node, &["spec", "drivers"]).len().into(), age(node, now).into()]
}
