//! ServiceCIDR.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, list, text};
use crate::standard::Standard;

static CIDR: Standard = Standard {
    rules: rules::networking::service_cidr::RULES,
    status: true,
    columns: &[NAME, text("CIDRs"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "ServiceCIDR", "servicecidrs", CIDR.main()).cluster_scoped().status(CIDR.status_only())
}

fn cells(range: &Object, now: i64) -> Vec<Value> {
    let cidrs: Vec<&str> = list(range, &["spec", "cidrs"]).iter().filter_map(Value::as_str).collect();
    vec![range.name().into(), cidrs.join(",").into(), age(range, now).into()]
}
