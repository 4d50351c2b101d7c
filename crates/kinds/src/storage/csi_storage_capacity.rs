//! CSIStorageCapacity.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{NAME, UNSET, text};
use crate::standard::Standard;

static CAPACITY: Standard = Standard {
    rules: rules::storage::csi_storage_capacity::RULES,
    unconditional_update: false,
    columns: &[NAME, text("StorageClassName"), text("Capacity")],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "CSIStorageCapacity", "csistoragecapacities", CAPACITY.main())
}

fn cells(capacity: &Object, _now: i64) -> Vec<Value> {
    let size = match capacity.get_str(&["capacity"]) {
        "" => UNSET,
        size => size,
    };
    vec![capacity.name().into(), capacity.get_str(&["storageClassName"]).into(), size.into()]
}
