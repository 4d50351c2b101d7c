//! ReplicationController.

use serde_json::Value;

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

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
    spec.default_value("selector", Value::Null);
    if spec.has("template") {
        super::pod_defaults::template(spec);
    }
}
