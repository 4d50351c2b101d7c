//! Where a pod may run: affinity, tolerations, spread constraints.

use meta::field::Error;
use meta::names;

use crate::C;
use crate::meta_v1;

/// `spec.affinity`.
pub fn validate(affinity: &C) {
    let node = affinity.get("nodeAffinity");
    let required = node.get("requiredDuringSchedulingIgnoredDuringExecution");
    if required.exists() {
        node_selector_terms(&required.get("nodeSelectorTerms"));
    }
    for preferred in node.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred);
        node_selector_term(&preferred.get("preference"));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.get(kind);
        for term in pods.get("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_term(&term);
        }
        for preferred in pods.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&preferred);
            pod_term(&preferred.get("podAffinityTerm"));
        }
    }
}

fn weight(preferred: &C) {
    let weight = preferred.get("weight");
    if !(1..=100).contains(&weight.int()) {
        weight.invalid_value(weight.int(), "must be in the range 1-100");
    }
}

/// The terms of a node selector, of which there must be some.
pub fn node_selector_terms(terms: &C) {
    if terms.is_empty() {
        return terms.missing("must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(&term);
    }
}

fn node_selector_term(term: &C) {
    for expression in term.get("matchExpressions").items() {
        meta_v1::label_name(&expression.get("key"));
        let (operator, values) = (expression.get("operator"), expression.get("values"));
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
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    values.missing("must be specified single value when `operator` is 'Lt' or 'Gt'");
                }
            }
            other => operator.invalid_value(other, "not a valid selector operator"),
        }
        for value in values.items() {
            value.check(names::label_value);
        }
    }
    for field in term.get("matchFields").items() {
        let (key, operator, values) = (field.get("key"), field.get("operator"), field.get("values"));
        match operator.str() {
            "In" | "NotIn" => {
                if values.len() != 1 {
                    values.missing("must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
                }
            }
            other => operator.invalid_value(other, "not a valid selector operator"),
        }
        if key.str() == "metadata.name" {
            for value in values.items() {
                value.check(names::dns1123_subdomain);
            }
        } else {
            key.invalid_value(key.str(), "not a valid field selector key");
        }
    }
}

fn pod_term(term: &C) {
    meta_v1::label_selector(&term.get("labelSelector"));
    meta_v1::label_selector(&term.get("namespaceSelector"));
    // Upstream says `namespace` where the field is called `namespaces`.
    for namespace in term.get("namespaces").items() {
        for finding in names::dns1123_label(namespace.str()) {
            term.get("namespace").invalid_value(namespace.str(), finding);
        }
    }
    match_label_keys(term);
    let topology = term.get("topologyKey");
    if topology.is_zero() {
        topology.missing("can not be empty");
    } else {
        meta_v1::label_name(&topology);
    }
}

fn match_label_keys(holder: &C) {
    let selector = holder.get("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = holder.get(field);
        if !keys.is_empty() && !selector.exists() {
            keys.forbidden("must not be specified when labelSelector is not set");
        }
        for key in keys.items() {
            key.check(names::qualified_name);
        }
    }
}

/// Tolerations, of pods and of runtime classes.
pub fn tolerations(list: &C) {
    for toleration in list.items() {
        let (key, operator) = (toleration.get("key"), toleration.get("operator"));
        let (value, effect) = (toleration.get("value"), toleration.get("effect"));
        if !key.is_zero() {
            meta_v1::label_name(&key);
        } else if operator.str() != "Exists" {
            let word = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            operator.invalid_value(operator.str(), word);
        }
        if toleration.get("tolerationSeconds").exists() && effect.str() != "NoExecute" {
            effect.invalid_value(effect.str(), "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.str() {
            "" | "Equal" => {
                let findings = names::label_value(value.str());
                if !findings.is_empty() {
                    operator.invalid_value(value.str(), findings.join(";"));
                }
            }
            "Exists" => {
                if !value.is_zero() {
                    operator.invalid_value(value.str(), "value must be empty when `operator` is 'Exists'");
                }
            }
            "Lt" | "Gt" => operator.not_supported(&["Equal", "Exists", "Lt", "Gt"]),
            _ => operator.not_supported(&["Equal", "Exists"]),
        }
        taint_effect(&effect, true);
    }
}

/// The effect of a taint or toleration.
pub fn taint_effect(effect: &C, optional: bool) {
    if effect.is_zero() {
        if !optional {
            effect.missing("");
        }
        return;
    }
    effect.one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"]);
}

/// `spec.topologySpreadConstraints`.
pub fn topology_spread(list: &C) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for constraint in list.items() {
        let skew = constraint.get("maxSkew");
        if skew.int() <= 0 {
            skew.invalid_value(skew.int(), "must be greater than zero");
        }
        let topology = constraint.get("topologyKey");
        if topology.is_zero() {
            topology.missing("can not be empty");
        } else {
            meta_v1::label_name(&topology);
        }
        let when = constraint.get("whenUnsatisfiable");
        when.one_of(&["DoNotSchedule", "ScheduleAnyway"]);
        let key = (topology.str(), when.str());
        if seen.contains(&key) {
            let path = constraint.path().child("{topologyKey, whenUnsatisfiable}");
            list.sink().push(Error::duplicate(&path, format!("{{{}, {}}}", key.0, key.1)));
        }
        seen.push(key);
        let domains = constraint.get("minDomains");
        if domains.exists() {
            if domains.int() <= 0 {
                domains.invalid("must be greater than zero");
            }
            if when.str() != "DoNotSchedule" {
                domains
                    .invalid(format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", when.str()));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = constraint.get(field);
            if policy.exists() {
                policy.one_of(&["Honor", "Ignore"]);
            }
        }
        match_label_keys(&constraint);
        meta_v1::label_selector(&constraint.get("labelSelector"));
    }
}
