//! ResourceQuota.

use crate::resources::round_up_milli;
use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: update, validate_status: status, revalidate: true };

fn default(body: &mut Tree) {
    for (part, list) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
        round_up_milli(body.descend(&[part, list]));
    }
}

fn validate(quota: &C) {
    let spec = quota.get("spec");
    quantities(&spec.get("hard"));
    let known = [
        "BestEffort",
        "CrossNamespacePodAffinity",
        "NotBestEffort",
        "NotTerminating",
        "PriorityClass",
        "Terminating",
        "VolumeAttributesClass",
    ];
    let scopes = spec.get("scopes");
    for scope in scopes.items() {
        if !known.contains(&scope.str()) {
            scopes.invalid("unsupported scope");
        }
    }
    let has = |name: &str| scopes.items().any(|s| s.str() == name);
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if has(one) && has(other) {
            scopes.invalid("conflicting scopes");
        }
    }
    let list = spec.get("scopeSelector.matchExpressions");
    for expression in list.items() {
        let name = expression.get("scopeName").str();
        if !known.contains(&name) {
            list.get("scopeName").invalid_value(name, "unsupported scope");
        }
        let (operator, values) = (expression.get("operator"), expression.get("values"));
        match operator.str() {
            "In" | "NotIn" if values.is_empty() => {
                values.missing("must be at least one value when `operator` is 'In' or 'NotIn' for scope selector");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.invalid("must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => list.get("operator").invalid_value(other, "not a valid selector operator"),
        }
    }
    status_lists(quota);
}

fn quantities(list: &C) {
    for (name, quantity) in list.entries() {
        for finding in meta::names::qualified_name(name) {
            quantity.invalid_value(name, finding);
        }
        if !name.contains('/') && !super::pod_spec::standard_resource_name(name) {
            quantity.invalid_value(name, "must be a standard resource type or fully qualified");
            quantity.invalid_value(name, "must be a standard resource for quota");
        }
        super::pod_spec::quantity_value(&quantity, name);
    }
}

fn status_lists(quota: &C) {
    for list in ["hard", "used"] {
        let status = quota.get("status");
        quantities(&status.get(list));
    }
}

fn update(new: &C, old: &C) {
    let sorted = |list: &C| {
        let mut names: Vec<String> = list.items().map(|s| s.str().to_owned()).collect();
        names.sort();
        names
    };
    let scopes = new.get("spec.scopes");
    if sorted(&scopes) != sorted(&old.get("spec.scopes")) {
        scopes.invalid("field is immutable");
    }
}

fn status(new: &C, _old: &C) {
    status_lists(new);
}
