//! RoleBinding and ClusterRoleBinding.

use crate::{C, Defaults, Rules, Tree};

/// The API group.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Rules of RoleBinding.
pub const RULES: Rules =
    Rules { default, validate: |binding| validate(binding, true), validate_update: update, ..Rules::NONE };

/// Rules of ClusterRoleBinding.
pub const CLUSTER_RULES: Rules = Rules { validate: |binding| validate(binding, false), ..RULES };

fn default(body: &mut Tree) {
    body.make("roleRef").default_str("apiGroup", GROUP);
    for subject in body.each("subjects") {
        if matches!(subject.text("kind"), "User" | "Group") {
            subject.default_str("apiGroup", GROUP);
        }
    }
}

fn validate(binding: &C, namespaced: bool) {
    let role = binding.get("roleRef");
    role.get("apiGroup").one_of(&[GROUP]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    role.get("kind").one_of(kinds);
    let name = role.get("name");
    if name.required() {
        name.check(meta::names::path_segment);
    }
    for subject in binding.get("subjects").items() {
        self::subject(&subject, namespaced);
    }
}

fn subject(subject: &C, namespaced: bool) {
    let (name, group) = (subject.get("name"), subject.get("apiGroup"));
    name.required();
    match subject.get("kind").str() {
        "ServiceAccount" => {
            if !name.is_zero() {
                name.check(meta::names::dns1123_subdomain);
            }
            if !group.is_zero() {
                group.not_supported(&[""]);
            }
            if !namespaced {
                subject.get("namespace").required();
            }
        }
        "User" | "Group" => {
            group.one_of(&[GROUP]);
        }
        _ => subject.get("kind").not_supported(&["ServiceAccount", "User", "Group"]),
    }
}

fn update(new: &C, old: &C) {
    let role = new.get("roleRef");
    if !role.same(&old.get("roleRef")) {
        role.invalid("cannot change roleRef");
    }
}
