//! The group `node.k8s.io`.

mod runtime_class;

use registry::KindRow;

/// The API group.
const GROUP: &str = "node.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![runtime_class::row()]
}
