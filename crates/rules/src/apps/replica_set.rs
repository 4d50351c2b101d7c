//! ReplicaSet.

use crate::{C, Defaults, Rules, Tree};

use super::workload;

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: update, validate_status: status, revalidate: true };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("replicas", 1);
    crate::core::pod_defaults::template(spec);
}

fn validate(set: &C) {
    let spec = set.get("spec");
    spec.get("replicas").non_negative();
    spec.get("minReadySeconds").non_negative();
    // Upstream says deployment here as well.
    workload::selector(&spec.get("selector"), "deployment");
    if workload::template_matches(&spec, Some("invalid label selector")) {
        workload::template(&spec.get("template"), "ReplicaSet");
    }
}

fn update(new: &C, old: &C) {
    new.get("spec.selector").immutable(&old.get("spec.selector"));
}

fn status(new: &C, _old: &C) {
    workload::status_counters(
        &new.get("status"),
        &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ],
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    );
}
