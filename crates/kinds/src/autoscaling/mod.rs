//! The group `autoscaling`.

mod horizontal_pod_autoscaler;

use registry::KindRow;

/// The API group.
const GROUP: &str = "autoscaling";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![horizontal_pod_autoscaler::row()]
}
