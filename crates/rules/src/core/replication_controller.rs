//! ReplicationController.

use serde_json::Value;

use crate::apps::workload;
use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: update, validate_status: status, revalidate: true };

/// One replica; selector and labels follow the template's labels.
fn default(body: &mut Tree) {
    let spec = body.make("spec");
    let labels = spec.get("template").and_then(|t| t.get("metadata")?.get("labels")).cloned();
    if let Some(labels @ Value::Object(_)) = labels {
        if spec.unset("selector") {
            spec.insert("selector".into(), labels.clone());
        }
        let metadata = body.make("metadata");
        if metadata.unset("labels") {
            metadata.insert("labels".into(), labels);
        }
    }
    let spec = body.make("spec");
    spec.default_value("replicas", 1);
    if spec.has("template") {
        super::pod_defaults::template(spec);
    }
}

fn validate(controller: &C) {
    let spec = controller.get("spec");
    spec.get("minReadySeconds").non_negative();
    let selector = spec.get("selector");
    if selector.required() {
        crate::meta_v1::labels(&selector);
    }
    let replicas = spec.get("replicas");
    if replicas.exists() {
        replicas.non_negative();
    } else {
        replicas.missing("");
    }
    let template = spec.get("template");
    if !template.exists() {
        return template.missing("");
    }
    let labels = template.get("metadata.labels");
    if selector.entries().any(|(key, value)| labels.key(key).str() != value.str()) {
        labels.invalid("`selector` does not match template `labels`");
    }
    workload::template(&template, "ReplicationController");
}

fn update(_new: &C, _old: &C) {}

fn status(new: &C, _old: &C) {
    workload::status_counters(
        &new.get("status"),
        &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"],
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
    );
}
