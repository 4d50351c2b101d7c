//! PodDisruptionBudget.

use crate::{C, Rules};

use crate::apps::workload;

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_status: status, ..Rules::NONE };

fn validate(budget: &C) {
    let spec = budget.get("spec");
    let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if least.exists() && most.exists() {
        spec.invalid("minAvailable and maxUnavailable cannot be both set");
    }
    for bound in [&least, &most] {
        if bound.exists() {
            workload::int_or_percent(bound);
            workload::at_most_all(bound);
        }
    }
    crate::meta_v1::label_selector(&spec.get("selector"));
    let eviction = spec.get("unhealthyPodEvictionPolicy");
    if eviction.exists() {
        eviction.one_of(&["AlwaysAllow", "IfHealthyBudget"]);
    }
}

fn status(new: &C, _old: &C) {
    let status = new.get("status");
    crate::meta_v1::conditions(&status.get("conditions"));
    for counter in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        status.get(counter).non_negative();
    }
}
