//! Role and ClusterRole.

use registry::KindRow;

use super::GROUP;
use crate::standard::Standard;

const PARTS: Standard = Standard {
    rules: rules::rbac::role::RULES,
    name: registry::names::path_segment,
    create_on_update: true,
    // Upstream shows the default table for roles.
    columns: &[],
    cells: |_, _| Vec::new(),
    ..Standard::PLAIN
};

static ROLE: Standard = PARTS;
static CLUSTER_ROLE: Standard = Standard { rules: rules::rbac::role::CLUSTER_RULES, ..PARTS };

/// The row of Role.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "Role", "roles", ROLE.main())
}

/// The row of ClusterRole.
pub fn cluster_row() -> KindRow {
    KindRow::new(GROUP, "v1", "ClusterRole", "clusterroles", CLUSTER_ROLE.main()).cluster_scoped()
}
