//! The group `apps`.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;

use registry::KindRow;

/// The API group.
const GROUP: &str = "apps";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![controller_revision::row(), daemon_set::row(), deployment::row(), replica_set::row(), stateful_set::row()]
}
