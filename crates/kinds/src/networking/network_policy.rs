//! NetworkPolicy.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, format_selector, text};
use crate::standard::Standard;

static POLICY: Standard = Standard {
    rules: rules::networking::network_policy::RULES,
    generation: true,
    columns: &[NAME, text("Pod-Selector"), AGE],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "NetworkPolicy", "networkpolicies", POLICY.main()).short(&["netpol"])
}

fn cells(policy: &Object, now: i64) -> Vec<Value> {
    let selector = format_selector(policy.get(&["spec", "podSelector"]));
    vec![policy.name().into(), selector.into(), age(policy, now).into()]
}
