//! Lease.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static LEASE: Standard = Standard {
    rules: rules::coordination::lease::RULES,
    create_on_update: true,
    prepare_create: |_, lease| drop_disabled(lease),
    prepare_update: |_, lease, _| drop_disabled(lease),
    unconditional_update: false,
    columns: &[NAME, text("Holder"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "Lease", "leases", LEASE.main())
}

fn cells(lease: &Object, now: i64) -> Vec<Value> {
    vec![lease.name().into(), lease.get_str(&["spec", "holderIdentity"]).into(), age(lease, now).into()]
}

/// Coordinated leader election is off, and with it these fields.
fn drop_disabled(lease: &mut Object) {
    for field in ["strategy", "preferredHolder"] {
        lease.remove(&["spec", field]);
    }
}
