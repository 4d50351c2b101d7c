//! What may change in a pod after it was created.

use serde_json::Value;

use crate::{C, Defaults, Tree, same_value};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update of the pod itself.
pub fn update(new: &C, old: &C) {
    super::pod::metadata_and_spec(new);
    let (spec, before) = (new.get("spec"), old.get("spec"));
    for list in ["containers", "initContainers"] {
        if !containers(&spec.get(list), &before.get(list)) {
            return;
        }
    }
    if !deadline(&spec.get("activeDeadlineSeconds"), &before.get("activeDeadlineSeconds")) {
        return;
    }
    only_added_tolerations(&spec.get("tolerations"), &before.get("tolerations"));
    only_deleted_gates(&spec.get("schedulingGates"), &before.get("schedulingGates"));
    if spec.same(&before) {
        return;
    }
    let (Some(Value::Object(now)), Some(Value::Object(then))) = (spec.value(), before.value()) else { return };
    let mut munged = now.clone();
    let mut then_clean = then.clone();
    munge(&mut munged, then);
    if !before.get("schedulingGates").is_empty() {
        gated(&spec, &before, &mut munged, &mut then_clean);
    }
    let (munged, then) = (Value::Object(munged), Value::Object(then_clean));
    if !same_value(Some(&munged), Some(&then)) {
        let mut changes = Vec::new();
        differences("", &munged, &then, &mut changes);
        spec.forbidden(format!("pod updates may not change fields other than {UPDATABLE}\n{}", changes.join("\n")));
    }
}

/// Sets the fields that may change to their old values, so that any difference left is forbidden.
fn munge(now: &mut Tree, then: &Tree) {
    for list in ["containers", "initContainers"] {
        let images: Vec<Value> = then
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|c| c.get("image").cloned().unwrap_or_default())
            .collect();
        for (container, image) in now.each(list).zip(images) {
            container.insert("image".into(), image);
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(now, then, field);
    }
    let seconds = |tree: &Tree| tree.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if seconds(then).is_some_and(|s| s < 0) && seconds(now) == Some(1) {
        restore(now, then, "terminationGracePeriodSeconds");
    }
}

fn restore(now: &mut Tree, then: &Tree, field: &str) {
    match then.get(field) {
        Some(value) => now.insert(field.to_owned(), value.clone()),
        None => now.remove(field),
    };
}

/// A gated pod may be narrowed to fewer nodes.
fn gated(spec: &C, before: &C, munged: &mut Tree, then: &mut Tree) {
    let (selector, old) = (spec.get("nodeSelector"), before.get("nodeSelector"));
    for (key, value) in old.entries() {
        if selector.key(key).str() != value.str() {
            selector.invalid("only additions to spec.nodeSelector are allowed (no mutations or deletions)");
            break;
        }
    }
    munged.remove("nodeSelector");
    then.remove("nodeSelector");
    let (affinity, old) = (spec.get("affinity"), before.get("affinity"));
    let required = "nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    let (terms, old_terms) = (affinity.get(required), old.get(required));
    if old_terms.exists() {
        node_affinity_narrowed(&terms.get("nodeSelectorTerms"), &old_terms.get("nodeSelectorTerms"));
    }
    for tree in [munged, then] {
        if let Some(affinity) = tree.child("affinity") {
            affinity.remove("nodeAffinity");
            if affinity.is_empty() {
                tree.remove("affinity");
            }
        }
    }
}

/// Each term may get more expressions, and none may go.
fn node_affinity_narrowed(terms: &C, old: &C) {
    if terms.len() != old.len() {
        return terms.invalid("no additions/deletions to non-empty NodeSelectorTerms list are allowed");
    }
    for (term, before) in terms.items().zip(old.items()) {
        for list in ["matchExpressions", "matchFields"] {
            let (now, then) = (term.get(list), before.get(list));
            if then.items().zip(now.items()).any(|(a, b)| !a.same(&b)) || now.len() < then.len() {
                let word = "only additions are allowed (no mutations or deletions)";
                now.invalid(word);
            }
        }
    }
}

fn containers(now: &C, then: &C) -> bool {
    if now.len() != then.len() {
        now.forbidden("pod updates may not add or remove containers");
        return false;
    }
    for container in now.items() {
        container.get("image").required();
    }
    true
}

fn deadline(now: &C, then: &C) -> bool {
    match (now.i64(), then.i64()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            now.in_range(0, i64::from(i32::MAX));
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            now.invalid("must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            now.invalid("must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

/// Old tolerations must all be there, but for the seconds they hold.
fn only_added_tolerations(now: &C, then: &C) {
    let key = |t: &C| {
        let mut tree = t.value().and_then(Value::as_object).cloned().unwrap_or_default();
        tree.remove("tolerationSeconds");
        Value::Object(tree)
    };
    let new: Vec<Value> = now.items().map(|t| key(&t)).collect();
    if then.items().any(|t| !new.iter().any(|n| same_value(Some(n), Some(&key(&t))))) {
        return now.forbidden("existing toleration can not be modified except its tolerationSeconds");
    }
    super::pod_spec::tolerations(now);
}

fn only_deleted_gates(now: &C, then: &C) {
    for gate in now.items() {
        let name = gate.get("name").str();
        if !then.items().any(|g| g.get("name").str() == name) {
            gate.get("name").forbidden(format!("only deletion is allowed, but found new scheduling gate '{name}'"));
        }
    }
}

/// Lines that say which fields differ.
fn differences(path: &str, now: &Value, then: &Value, lines: &mut Vec<String>) {
    const MOST: usize = 20;
    match (now, then) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (a, b) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                if !same_value(Some(a).filter(|v| !v.is_null()), Some(b).filter(|v| !v.is_null())) {
                    differences(&format!("{path}.{name}"), a, b, lines);
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                if !same_value(Some(a), Some(b)) {
                    differences(&format!("{path}[{i}]"), a, b, lines);
                }
            }
        }
        _ if lines.len() < MOST => {
            lines.push(format!("-  {path}: {then}"));
            lines.push(format!("+  {path}: {now}"));
        }
        _ => {}
    }
}

/// An update of the status.
pub fn status(new: &C, old: &C) {
    let (status, before) = (new.get("status"), old.get("status"));
    let class = status.get("qosClass");
    if class.str() != before.get("qosClass").str() {
        class.invalid("field is immutable");
    }
    status.get("observedGeneration").non_negative();
    let nominated = status.get("nominatedNodeName");
    if nominated.str() != before.get("nominatedNodeName").str() && !nominated.is_zero() {
        nominated.check(meta::names::dns1123_subdomain);
        if !old.get("spec.nodeName").is_zero() {
            nominated.forbidden("may not be set on pods that are already bound to a node");
        }
    }
    extended_claim(&status.get("extendedResourceClaimStatus"), &old.get("spec"));
    for condition in status.get("conditions").items() {
        condition.get("observedGeneration").non_negative();
    }
    let policy = old.get("spec.restartPolicy");
    let (now, then) = (status.get("containerStatuses"), before.get("containerStatuses"));
    if policy.str() != "Always" {
        container_transitions(&now, &then, policy.str(), old);
    }
}

/// Which requests of a claim are for which container's extended resources.
fn extended_claim(status: &C, spec: &C) {
    if !status.exists() {
        return;
    }
    let mappings = status.get("requestMappings");
    if mappings.is_empty() {
        mappings.missing("at least one request mapping is required");
    }
    let lists = ["initContainers", "containers"].map(|list| spec.get(list));
    let mut seen = Vec::new();
    for mapping in mappings.items() {
        let [container, resource, request] =
            ["containerName", "resourceName", "requestName"].map(|field| mapping.get(field));
        let mut all = lists.iter().flat_map(C::items);
        match all.find(|c| c.get("name").str() == container.str()) {
            None => {
                container.invalid("must match the name of an entry in spec.initContainers.name or spec.containers.name")
            }
            Some(found) if !found.get("resources.requests").key(resource.str()).exists() => resource.invalid(
                "must match the extended resource name of an entry in spec.initContainers.resources.requests or \
                 spec.containers.resources.requests",
            ),
            Some(_) => {}
        }
        request.check(meta::names::dns1123_label);
        let key = [container.str(), resource.str(), request.str()];
        if seen.contains(&key) {
            container.duplicate();
            resource.duplicate();
            request.duplicate();
        }
        seen.push(key);
    }
    let name = status.get("resourceClaimName");
    if name.required() {
        name.check(meta::names::dns1123_subdomain);
    }
}

/// A container that has ended for good does not come back.
fn container_transitions(now: &C, then: &C, policy: &str, old: &C) {
    for before in then.items() {
        let Some(code) =
            before.get("state.terminated").value().map(|t| t.get("exitCode").and_then(Value::as_i64).unwrap_or(0))
        else {
            continue;
        };
        let name = before.get("name").str();
        let spec = old.get("spec.containers");
        let own = spec.items().any(|c| {
            c.get("name").str() == name && (c.get("restartPolicy").exists() || !c.get("restartPolicyRules").is_empty())
        });
        if own || (policy == "OnFailure" && code != 0) {
            continue;
        }
        for container in now.items().filter(|c| c.get("name").str() == name) {
            let state = container.get("state");
            if !state.get("terminated").exists() {
                state.forbidden("may not be transitioned to non-terminated state");
            }
        }
    }
}

/// `pods/ephemeralcontainers`: containers may be added, never changed or removed.
pub fn ephemeral_containers(new: &C, old: &C) {
    super::pod::metadata_and_spec(new);
    let (list, before) = (new.get("spec.ephemeralContainers"), old.get("spec.ephemeralContainers"));
    if old.get("metadata.annotations").key("kubernetes.io/config.mirror").exists() {
        return new.forbidden("static pods do not support ephemeral containers");
    }
    for container in before.items() {
        let name = container.get("name").str();
        let same = list.items().find(|c| c.get("name").str() == name).map(|c| c.same(&container));
        match same {
            None => list.forbidden(format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(false) => list.forbidden(format!("existing ephemeral containers {name:?} may not be changed\n")),
            Some(true) => {}
        }
    }
}

/// `pods/resize`: only CPU and memory of containers, which may change but not go.
pub fn resize(new: &C, old: &C) {
    super::pod::metadata_and_spec(new);
    if old.get("metadata.annotations").key("kubernetes.io/config.mirror").exists() {
        return new.forbidden("static pods cannot be resized");
    }
    let (spec, before) = (new.get("spec"), old.get("spec"));
    for list in ["containers", "initContainers"] {
        let (now, then) = (spec.get(list), before.get(list));
        if now.len() != then.len() {
            return now.forbidden("pod resize may not add or remove containers");
        }
        for (container, previous) in now.items().zip(then.items()) {
            resized(&container.get("resources"), &previous.get("resources"), &spec);
        }
    }
}

fn resized(now: &C, then: &C, spec: &C) {
    for list in ["requests", "limits"] {
        let (new, old) = (now.get(list), then.get(list));
        for (name, value) in old.entries() {
            let current = new.key(name);
            if matches!(name, "cpu" | "memory") {
                if !current.exists() {
                    new.forbidden(format!("resource {list} cannot be removed"));
                }
            } else if !current.same(&value) {
                spec.forbidden("only cpu and memory resources are mutable");
            }
        }
        for (name, _) in new.entries() {
            if !matches!(name, "cpu" | "memory") && !old.key(name).exists() {
                spec.forbidden("only cpu and memory resources are mutable");
            }
        }
    }
}
