//! RoleBinding and ClusterRoleBinding.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, list, str_in, text};
use crate::standard::Standard;

static ROLE_BINDING: Standard = Standard {
    rules: rules::rbac::binding::RULES,
    name: registry::names::path_segment,
    create_on_update: true,
    columns: &[NAME, text("Role"), AGE, text("Users").wide(), text("Groups").wide(), text("ServiceAccounts").wide()],
    cells,
    ..Standard::PLAIN
};

static CLUSTER_ROLE_BINDING: Standard = Standard { rules: rules::rbac::binding::CLUSTER_RULES, ..ROLE_BINDING };

/// The row of RoleBinding.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "RoleBinding", "rolebindings", ROLE_BINDING.main())
}

/// The row of ClusterRoleBinding.
pub fn cluster_row() -> KindRow {
    KindRow::new(GROUP, "v1", "ClusterRoleBinding", "clusterrolebindings", CLUSTER_ROLE_BINDING.main()).cluster_scoped()
}

fn cells(binding: &Object, now: i64) -> Vec<Value> {
    let role = |field: &str| binding.get_str(&["roleRef", field]);
    let subjects = |kind: &str| -> Value {
        let named = list(binding, &["subjects"]).iter().filter(|s| str_in(s, "kind") == kind);
        let names: Vec<String> = named
            .map(|subject| match (kind, str_in(subject, "name")) {
                ("ServiceAccount", name) => format!("{}/{name}", str_in(subject, "namespace")),
                (_, name) => name.to_owned(),
            })
            .collect();
        names.join(", ").into()
    };
    vec![
        binding.name().into(),
        format!("{}/{}", role("kind"), role("name")).into(),
        age(binding, now).into(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
