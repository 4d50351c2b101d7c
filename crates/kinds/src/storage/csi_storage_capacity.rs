//! CSIStorageCapacity.

use registry::KindRow;

use super::GROUP;
use crate::standard::Standard;

/// Upstream shows the default table for the kind.
static CAPACITY: Standard = Standard {
    rules: rules::storage::csi_storage_capacity::RULES,
    unconditional_update: false,
    columns: &[],
    cells: |_, _| Vec::new(),
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "CSIStorageCapacity", "csistoragecapacities", CAPACITY.main())
}
