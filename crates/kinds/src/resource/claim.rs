//! ResourceClaim.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, list, text};
use crate::standard::Standard;

static CLAIM: Standard = Standard {
    rules: rules::resource::claim::RULES,
    status: true,
    columns: &[NAME, text("State"), AGE],
    cells,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "ResourceClaim", "resourceclaims", CLAIM.main()).status(CLAIM.status_only())
}

fn cells(claim: &Object, now: i64) -> Vec<Value> {
    let deleted = claim.deletion_timestamp().is_some();
    let allocated = claim.get(&["status", "allocation"]).is_some_and(Value::is_object);
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if allocated {
        states.push("allocated");
        if !list(claim, &["status", "reservedFor"]).is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    vec![claim.name().into(), states.join(",").into(), age(claim, now).into()]
}
