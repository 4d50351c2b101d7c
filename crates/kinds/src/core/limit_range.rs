//! LimitRange.

use registry::KindRow;

use crate::standard::Standard;

/// Upstream has no printer for the kind, so that the default table is shown.
static LIMIT_RANGE: Standard = Standard {
    rules: rules::core::limit_range::RULES,
    create_on_update: true,
    columns: &[],
    cells: |_, _| Vec::new(),
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "LimitRange", "limitranges", LIMIT_RANGE.main()).short(&["limits"])
}
