//! Rules of `meta/v1` that kinds share: labels, selectors, annotations, conditions.

use meta::names;

use crate::C;

/// Most bytes that all annotations of an object may have together.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// A map of labels.
pub fn labels(map: &C) {
    for (key, value) in map.entries() {
        for finding in names::qualified_name(key) {
            map.invalid_value(key, finding);
        }
        for finding in names::label_value(value.str()) {
            map.invalid_value(value.str(), finding);
        }
    }
}

/// A map of annotations.
pub fn annotations(map: &C) {
    let mut total = 0;
    for (key, value) in map.entries() {
        for finding in names::qualified_name(&key.to_lowercase()) {
            map.invalid_value(key, finding);
        }
        total += key.len() + value.str().len();
    }
    if total > ANNOTATIONS_MAX {
        map.sink().push(meta::field::Error::too_long(&map.path(), ANNOTATIONS_MAX));
    }
}

/// The metadata of a template: labels and annotations.
pub fn template_metadata(metadata: &C) {
    labels(&metadata.get("labels"));
    annotations(&metadata.get("annotations"));
}

/// A label selector (`matchLabels` and `matchExpressions`).
pub fn label_selector(selector: &C) {
    labels(&selector.get("matchLabels"));
    for expression in selector.get("matchExpressions").items() {
        let operator = expression.get("operator");
        let values = expression.get("values");
        match operator.str() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    values.missing("must be specified when `operator` is 'In' or 'NotIn'");
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
                }
            }
            _ => operator.invalid_value(operator.str(), "not a valid selector operator"),
        }
        label_name(&expression.get("key"));
        for value in values.items() {
            for finding in names::label_value(value.str()) {
                value.invalid(finding);
            }
        }
    }
}

/// A label key.
pub fn label_name(name: &C) -> bool {
    let findings = names::qualified_name(name.str());
    let fine = findings.is_empty();
    for finding in findings {
        name.invalid_value(name.str(), finding);
    }
    fine
}

/// Whether a selector selects everything: no labels and no expressions.
pub fn selector_is_empty(selector: &C) -> bool {
    selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty()
}

/// Conditions: unique types, known status, a reason and a transition time.
pub fn conditions(list: &C) {
    let mut seen = Vec::new();
    for condition in list.items() {
        let kind = condition.get("type");
        if seen.contains(&kind.str()) {
            kind.duplicate();
        }
        seen.push(kind.str());
        if kind.required() {
            kind.check(names::qualified_name);
        }
        condition.get("status").one_of(&["False", "True", "Unknown"]);
        condition.get("observedGeneration").non_negative();
        condition.get("lastTransitionTime").required();
        let reason = condition.get("reason");
        if reason.required() {
            reason.max_len(1024);
        }
        condition.get("message").max_len(32 * 1024);
    }
}
