//! StatefulSet.

use crate::{C, Defaults, Rules, Tree};

use super::workload;
use serde_json::{Value, json};

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate: create, validate_update: update, validate_status: status, revalidate: false };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_str("podManagementPolicy", "OrderedReady");
    spec.default_value("replicas", 1);
    spec.default_value("revisionHistoryLimit", 10);
    let strategy = spec.make("updateStrategy");
    if strategy.text("type").is_empty() {
        strategy.default_str("type", "RollingUpdate");
        strategy.make("rollingUpdate");
    }
    if strategy.text("type") == "RollingUpdate"
        && let Some(rolling) = strategy.child("rollingUpdate")
    {
        rolling.default_value("partition", 0);
    }
    let retention = spec.make("persistentVolumeClaimRetentionPolicy");
    retention.default_str("whenDeleted", "Retain");
    retention.default_str("whenScaled", "Retain");
    for claim in spec.each("volumeClaimTemplates") {
        claim.insert("apiVersion".into(), "v1".into());
        claim.insert("kind".into(), "PersistentVolumeClaim".into());
        crate::core::persistent_volume_claim::default(claim);
    }
    crate::core::pod_defaults::template(spec);
}

/// What only a new set must fulfil; both fields never change afterwards.
fn create(set: &C) {
    validate(set);
    let spec = set.get("spec");
    let service = spec.get("serviceName");
    if !service.is_zero() {
        service.check(meta::names::dns1123_label);
    }
    for claim in spec.get("volumeClaimTemplates").items() {
        crate::meta_v1::template_metadata(&claim.get("metadata"));
        crate::core::persistent_volume_claim::validate_spec(&claim.get("spec"));
    }
}

fn validate(set: &C) {
    let spec = set.get("spec");
    let management = spec.get("podManagementPolicy");
    match management.str() {
        "OrderedReady" | "Parallel" => {}
        "" => management.missing(""),
        _ => management.invalid("must be 'OrderedReady' or 'Parallel'"),
    }
    strategy(&spec.get("updateStrategy"));
    for field in ["whenDeleted", "whenScaled"] {
        let policy = spec.get("persistentVolumeClaimRetentionPolicy");
        policy.get(field).one_of(&["Retain", "Delete"]);
    }
    for field in ["replicas", "minReadySeconds"] {
        spec.get(field).non_negative();
    }
    spec.get("ordinals.start").non_negative();
    workload::selector(&spec.get("selector"), "statefulset");
    if workload::template_matches(&spec, Some("")) {
        let template = spec.get("template");
        let completed = with_claims(&spec);
        workload::template(&template.with_value(&completed), "StatefulSet");
    }
}

fn strategy(strategy: &C) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").str() {
        "" => strategy.missing(""),
        "OnDelete" => {
            if rolling.exists() {
                rolling.invalid("only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            rolling.get("partition").non_negative();
            if rolling.get("maxUnavailable").exists() {
                workload::int_or_percent(&rolling.get("maxUnavailable"));
                workload::at_most_all(&rolling.get("maxUnavailable"));
            }
        }
        _ => strategy.invalid("must be 'RollingUpdate' or 'OnDelete'"),
    }
}

/// The template as its pods will be: with a volume for each claim, and without names that the controller sets.
fn with_claims(spec: &C) -> Value {
    let mut template = spec.get("template").value_or_null();
    let Some(pod) = template.as_object_mut().and_then(|t| t.child("spec")) else { return template };
    pod.remove("hostname");
    pod.remove("subdomain");
    let claims = spec.get("volumeClaimTemplates");
    if !claims.is_empty() {
        let names: Vec<&str> = claims.items().map(|c| c.get("metadata.name").str()).collect();
        let mut volumes: Vec<Value> =
            names.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
        let own = pod.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        volumes.extend(own.into_iter().filter(|v| !names.iter().any(|n| v["name"] == **n)));
        pod.insert("volumes".into(), volumes.into());
    }
    template
}

/// Only what the controller can act upon may change.
fn update(new: &C, old: &C) {
    validate(new);
    const MUTABLE: [&str; 7] = [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ];
    let rest = |set: &C| {
        let mut spec = set.get("spec").value().and_then(Value::as_object).cloned().unwrap_or_default();
        spec.retain(|field, _| !MUTABLE.contains(&field.as_str()));
        Value::Object(spec)
    };
    if !crate::same_value(Some(&rest(new)), Some(&rest(old))) {
        new.get("spec").forbidden(
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

fn status(new: &C, _old: &C) {
    let status = new.get("status");
    for counter in [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "observedGeneration",
        "collisionCount",
        "availableReplicas",
    ] {
        status.get(counter).non_negative();
    }
    for counter in ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"] {
        let value = status.get(counter);
        if value.int() > status.get("replicas").int() {
            value.invalid("cannot be greater than status.replicas");
        }
    }
    let available = status.get("availableReplicas");
    if available.int() > status.get("readyReplicas").int() {
        available.invalid("cannot be greater than status.readyReplicas");
    }
}
