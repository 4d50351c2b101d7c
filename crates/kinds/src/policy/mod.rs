//! The group `policy`.

mod pod_disruption_budget;

use registry::KindRow;

/// The API group.
const GROUP: &str = "policy";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![pod_disruption_budget::row()]
}
