//! The group `rbac.authorization.k8s.io`.

mod binding;
mod role;

use registry::KindRow;

/// The API group.
const GROUP: &str = "rbac.authorization.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![binding::cluster_row(), role::cluster_row(), binding::row(), role::row()]
}
