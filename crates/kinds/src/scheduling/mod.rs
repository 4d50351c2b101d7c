//! The group `scheduling.k8s.io`.

mod pod_group;
mod priority_class;
mod workload;

use registry::KindRow;

/// The API group.
const GROUP: &str = "scheduling.k8s.io";

/// The rows of the group.
pub fn rows(config: &crate::Config) -> Vec<KindRow> {
    let mut rows = vec![priority_class::row()];
    if config.pod_groups {
        rows.extend([workload::row(), pod_group::row()]);
    }
    rows
}
