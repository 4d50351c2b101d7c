//! Label selectors of typed objects.

use std::collections::BTreeMap;

use meta::selector::{LabelSelector, Operator, Requirement};

/// Compiles a selector; an absent one matches nothing, and so does one that is malformed (the API server lets none in).
pub(crate) fn selector_of(selector: Option<&api::metav1::LabelSelector>) -> LabelSelector {
    let Some(selector) = selector else { return LabelSelector::nothing() };
    let mut compiled = from_pairs(selector.match_labels.as_ref());
    for expression in selector.match_expressions.iter().flatten() {
        let operator = match expression.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return LabelSelector::nothing(),
        };
        let values = expression.values.clone().unwrap_or_default();
        compiled.requirements.push(Requirement { key: expression.key.clone(), operator, values });
    }
    compiled
}

/// Equality on every pair.
pub(crate) fn from_pairs(labels: Option<&BTreeMap<String, String>>) -> LabelSelector {
    LabelSelector::from_pairs(labels.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())))
}
