//! What the validation of all workloads shares.

use std::collections::BTreeMap;

use meta::names;
use meta::selector::LabelSelector;
use serde_json::Value;

use crate::{C, meta_v1};

/// Labels at a place.
pub fn labels_of(map: &C) -> BTreeMap<String, String> {
    map.entries().map(|(key, value)| (key.to_owned(), value.str().to_owned())).collect()
}

/// A required, non-empty label selector, as deployments, replica sets and stateful sets have it.
pub fn selector(selector: &C, kind: &str) {
    if !selector.exists() {
        return selector.missing("");
    }
    meta_v1::label_selector(selector);
    if meta_v1::selector_is_empty(selector) {
        selector.invalid(format!("empty selector is invalid for {kind}"));
    }
}

/// The template must have labels that the selector finds. Says whether the selector could be read at all; `malformed`
/// is reported if not.
pub fn template_matches(spec: &C, malformed: Option<&str>) -> bool {
    let given = spec.get("selector");
    let Ok(selector) = LabelSelector::from_value(given.value()) else {
        if let Some(word) = malformed {
            given.invalid(word);
        }
        return false;
    };
    let labels = spec.get("template.metadata.labels");
    if !selector.is_everything() && given.exists() && !selector.matches_map(&labels_of(&labels)) {
        labels.invalid("`selector` does not match template `labels`");
    }
    true
}

/// A template whose pods run for ever.
pub fn template(template: &C, kind: &str) {
    crate::core::pod_spec::template(template);
    always_running(template, kind);
}

/// Pods of the template must restart always and have no deadline.
pub fn always_running(template: &C, kind: &str) {
    let policy = template.get("spec.restartPolicy");
    if policy.str() != "Always" {
        policy.not_supported(&["Always"]);
    }
    let deadline = template.get("spec.activeDeadlineSeconds");
    if deadline.exists() {
        deadline.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported"));
    }
}

/// A number or a percentage that is not negative.
pub fn int_or_percent(value: &C) {
    match value.value() {
        Some(Value::String(text)) => {
            for finding in names::percent(text) {
                value.invalid(finding);
            }
        }
        Some(Value::Number(_)) => {
            value.non_negative();
        }
        _ => value.invalid("must be an integer or percentage (e.g '5%%')"),
    }
}

/// The number of an int-or-percent, whichever it is.
pub fn plain_number(value: &C) -> i64 {
    match value.value() {
        Some(Value::String(text)) => text.trim_end_matches('%').parse().unwrap_or(0),
        _ => value.int(),
    }
}

/// A percentage of at most 100.
pub fn at_most_all(value: &C) {
    if matches!(value.value(), Some(Value::String(_))) && plain_number(value) > 100 {
        value.invalid("must not be greater than 100%");
    }
}

/// Counters of a status: none negative, and none above the number of replicas.
pub fn status_counters(status: &C, counters: &[&str], bounded: &[&str]) {
    for counter in counters {
        status.get(counter).non_negative();
    }
    let all = status.get("replicas").int();
    for counter in bounded {
        let value = status.get(counter);
        if value.int() > all {
            value.invalid("cannot be greater than status.replicas");
        }
    }
    let available = status.get("availableReplicas");
    if available.int() > status.get("readyReplicas").int() {
        available.invalid("cannot be greater than readyReplicas");
    }
}
