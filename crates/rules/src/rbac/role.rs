//! Role and ClusterRole.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate: |role| rules(role, true), ..Rules::NONE };

/// Rules of ClusterRole.
pub const CLUSTER_RULES: Rules = Rules { validate: cluster_role, ..Rules::NONE };

fn cluster_role(role: &C) {
    rules(role, false);
    let aggregation = role.get("aggregationRule");
    if !aggregation.exists() {
        return;
    }
    let selectors = aggregation.get("clusterRoleSelectors");
    if selectors.is_empty() {
        selectors.missing("at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for selector in selectors.items() {
        crate::meta_v1::label_selector(&selector);
    }
}

fn rules(role: &C, namespaced: bool) {
    for rule in role.get("rules").items() {
        if rule.get("verbs").is_empty() {
            rule.get("verbs").missing("verbs must contain at least one value");
        }
        let urls = rule.get("nonResourceURLs");
        if !urls.is_empty() {
            if namespaced {
                urls.invalid("namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !rule.get(field).is_empty()) {
                urls.invalid("rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if rule.get("apiGroups").is_empty() {
            rule.get("apiGroups").missing("resource rules must supply at least one api group");
        }
        if rule.get("resources").is_empty() {
            rule.get("resources").missing("resource rules must supply at least one resource");
        }
    }
}
