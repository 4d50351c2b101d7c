//! The group `discovery.k8s.io`.

mod endpoint_slice;

use registry::KindRow;

/// The API group.
const GROUP: &str = "discovery.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![endpoint_slice::row()]
}
