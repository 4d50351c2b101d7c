//! DeviceClass.

use registry::KindRow;

use super::GROUP;
use crate::standard::Standard;

static CLASS: Standard =
    Standard { rules: rules::resource::device_class::RULES, generation: true, return_deleted: true, ..Standard::PLAIN };

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "DeviceClass", "deviceclasses", CLASS.main()).cluster_scoped()
}
