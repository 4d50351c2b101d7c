//! The group `flowcontrol.apiserver.k8s.io`.

mod flow_schema;
mod priority_level_configuration;

use registry::KindRow;

/// The API group.
const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![flow_schema::row(), priority_level_configuration::row()]
}
