//! DaemonSet.

use crate::{C, Defaults, Rules, Tree};

use super::workload;

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: update, validate_status: status, revalidate: true };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("revisionHistoryLimit", 10);
    let strategy = spec.make("updateStrategy");
    strategy.default_str("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.make("rollingUpdate");
        rolling.default_value("maxUnavailable", 1);
        rolling.default_value("maxSurge", 0);
    }
    crate::core::pod_defaults::template(spec);
}

fn validate(set: &C) {
    let spec = set.get("spec");
    let selector = spec.get("selector");
    crate::meta_v1::label_selector(&selector);
    workload::template_matches(&spec, None);
    if selector.exists() && crate::meta_v1::selector_is_empty(&selector) {
        selector.invalid("empty selector is invalid for daemonset");
    }
    workload::template(&spec.get("template"), "DaemonSet");
    spec.get("minReadySeconds").non_negative();
    spec.get("revisionHistoryLimit").non_negative();
    strategy(&spec.get("updateStrategy"));
}

fn strategy(strategy: &C) {
    match strategy.get("type").str() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = strategy.get("rollingUpdate");
            if !rolling.exists() {
                return rolling.missing("");
            }
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            for value in [&unavailable, &surge] {
                workload::int_or_percent(value);
                workload::at_most_all(value);
            }
            match (workload::plain_number(&unavailable) != 0, workload::plain_number(&surge) != 0) {
                (true, true) => surge.invalid("may not be set when maxUnavailable is non-zero"),
                (false, false) => unavailable.missing("cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => strategy.not_supported(&["RollingUpdate", "OnDelete"]),
    }
}

fn update(new: &C, old: &C) {
    new.get("spec.selector").immutable(&old.get("spec.selector"));
}

fn status(new: &C, _old: &C) {
    let status = new.get("status");
    for counter in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ] {
        status.get(counter).non_negative();
    }
}
