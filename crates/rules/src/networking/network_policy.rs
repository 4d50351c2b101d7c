//! NetworkPolicy.

use serde_json::json;

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

/// Without `policyTypes`, a policy is about ingress, and about egress if it has rules for it.
fn default(body: &mut Tree) {
    let spec = body.make("spec");
    if spec.unset("policyTypes") {
        let types = if spec.unset("egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        spec.insert("policyTypes".into(), types);
    }
    for direction in ["ingress", "egress"] {
        for rule in spec.each(direction) {
            for port in rule.each("ports") {
                port.default_value("protocol", "TCP");
            }
        }
    }
}
