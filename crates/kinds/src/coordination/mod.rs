//! The group `coordination.k8s.io`.

mod lease;

use registry::KindRow;

/// The API group.
const GROUP: &str = "coordination.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![lease::row()]
}
