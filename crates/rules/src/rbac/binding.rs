//! RoleBinding and ClusterRoleBinding.

use crate::{Defaults, Rules, Tree};

/// The API group.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Rules of RoleBinding.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

/// Rules of ClusterRoleBinding.
pub const CLUSTER_RULES: Rules = RULES;

fn default(body: &mut Tree) {
    body.make("roleRef").default_str("apiGroup", GROUP);
    for subject in body.each("subjects") {
        if matches!(subject.text("kind"), "User" | "Group") {
            subject.default_str("apiGroup", GROUP);
        }
    }
}
