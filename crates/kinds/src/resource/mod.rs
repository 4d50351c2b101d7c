//! The group `resource.k8s.io`.

mod claim;
mod claim_template;
mod device_class;
mod slice;

use registry::KindRow;

/// The API group.
const GROUP: &str = "resource.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![device_class::row(), claim::row(), claim_template::row(), slice::row()]
}
