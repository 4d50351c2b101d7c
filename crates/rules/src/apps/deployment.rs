//! Deployment.

use crate::{C, Defaults, Rules, Tree};

use super::workload;

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: update, validate_status: status, revalidate: true };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("replicas", 1);
    spec.default_value("revisionHistoryLimit", 10);
    spec.default_value("progressDeadlineSeconds", 600);
    let strategy = spec.make("strategy");
    strategy.default_str("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.make("rollingUpdate");
        rolling.default_value("maxUnavailable", "25%");
        rolling.default_value("maxSurge", "25%");
    }
    crate::core::pod_defaults::template(spec);
}

fn validate(deployment: &C) {
    let spec = deployment.get("spec");
    spec.get("replicas").non_negative();
    workload::selector(&spec.get("selector"), "deployment");
    if workload::template_matches(&spec, Some("invalid label selector")) {
        workload::template(&spec.get("template"), "ReplicaSet");
    }
    strategy(&spec.get("strategy"));
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        spec.get(field).non_negative();
    }
    let deadline = spec.get("progressDeadlineSeconds");
    if deadline.exists() && deadline.int() <= spec.get("minReadySeconds").int() {
        deadline.invalid("must be greater than minReadySeconds");
    }
}

fn strategy(strategy: &C) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").str() {
        "Recreate" => {
            if rolling.exists() {
                rolling.forbidden("may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            if !rolling.exists() {
                return rolling.missing("this should be defaulted and never be nil");
            }
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            workload::int_or_percent(&unavailable);
            workload::int_or_percent(&surge);
            if workload::plain_number(&unavailable) == 0 && workload::plain_number(&surge) == 0 {
                unavailable.invalid("may not be 0 when `maxSurge` is 0");
            }
            workload::at_most_all(&unavailable);
        }
        // Upstream reports at the strategy, not at its type.
        other => strategy.sink().push(meta::field::Error::not_supported(
            &strategy.path(),
            other,
            &["Recreate", "RollingUpdate"],
        )),
    }
}

fn update(new: &C, old: &C) {
    new.get("spec.selector").immutable(&old.get("spec.selector"));
}

fn status(new: &C, old: &C) {
    let status = new.get("status");
    workload::status_counters(
        &status,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
    );
    let (now, then) = (status.get("collisionCount"), old.get("status.collisionCount"));
    if then.exists() && now.int() < then.int() {
        now.invalid_value(now.int(), "cannot be decremented");
    }
}
