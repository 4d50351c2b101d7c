//! The group `scheduling.k8s.io`.

mod priority_class;

use registry::KindRow;

/// The API group.
const GROUP: &str = "scheduling.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![priority_class::row()]
}
