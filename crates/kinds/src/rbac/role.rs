//! Role and ClusterRole.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{NAME, text};
use crate::standard::Standard;

static ROLE: Standard = Standard {
    rules: rules::rbac::role::RULES,
    name: registry::names::path_segment,
    create_on_update: true,
    columns: &[NAME, text("Created At")],
    cells,
    ..Standard::PLAIN
};

static CLUSTER_ROLE: Standard = Standard { rules: rules::rbac::role::CLUSTER_RULES, ..ROLE };

/// The row of Role.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "Role", "roles", ROLE.main())
}

/// The row of ClusterRole.
pub fn cluster_row() -> KindRow {
    KindRow::new(GROUP, "v1", "ClusterRole", "clusterroles", CLUSTER_ROLE.main()).cluster_scoped()
}

fn cells(role: &Object, _now: i64) -> Vec<Value> {
    vec![role.name().into(), role.meta_str("creationTimestamp").into()]
}
