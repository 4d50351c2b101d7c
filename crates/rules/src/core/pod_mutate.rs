//! What a pod's strategy changes in its spec on create.

use meta::Object;
use serde_json::{Value, json};

/// `matchLabelKeys` and `mismatchLabelKeys` of pod affinity terms and spread constraints become selector requirements
/// with the pod's own label values.
pub fn merge_match_label_keys(pod: &mut Object) {
    let labels = pod.label_map();
    let value_of = |key: &str| labels.get(key).cloned();
    let spec = pod.spec_mut();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|a| a.get_mut(kind)) else { continue };
        let required = affinity.get_mut("requiredDuringSchedulingIgnoredDuringExecution").and_then(Value::as_array_mut);
        for term in required.into_iter().flatten() {
            merge(term, &value_of);
        }
        let preferred =
            affinity.get_mut("preferredDuringSchedulingIgnoredDuringExecution").and_then(Value::as_array_mut);
        for term in preferred.into_iter().flatten().filter_map(|w| w.get_mut("podAffinityTerm")) {
            merge(term, &value_of);
        }
    }
    let constraints = spec.get_mut("topologySpreadConstraints").and_then(Value::as_array_mut);
    for constraint in constraints.into_iter().flatten() {
        merge(constraint, &value_of);
    }
}

fn merge(holder: &mut Value, value_of: &impl Fn(&str) -> Option<String>) {
    if !holder.get("labelSelector").is_some_and(Value::is_object) {
        return;
    }
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys: Vec<String> = holder
            .get(field)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|k| k.as_str().map(str::to_owned))
            .collect();
        for key in keys {
            let Some(value) = value_of(&key) else { continue };
            let requirement = json!({"key": key, "operator": operator, "values": [value]});
            let selector = &mut holder["labelSelector"];
            match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
                Some(list) => list.push(requirement),
                None => selector["matchExpressions"] = json!([requirement]),
            }
        }
    }
}
