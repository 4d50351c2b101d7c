//! ResourceClaimTemplate.

use registry::KindRow;

use super::GROUP;
use crate::standard::Standard;

static TEMPLATE: Standard =
    Standard { rules: rules::resource::claim::TEMPLATE, return_deleted: true, ..Standard::PLAIN };

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "ResourceClaimTemplate", "resourceclaimtemplates", TEMPLATE.main())
}
