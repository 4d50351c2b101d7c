//! HorizontalPodAutoscaler (v2; v1 is converted).

use serde_json::json;

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("minReplicas", 1);
    if spec.unset("metrics") {
        let cpu = json!([{"type": "Resource", "resource":
            {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        spec.insert("metrics".into(), cpu);
    }
    if let Some(behavior) = spec.child("behavior") {
        let up = behavior.make("scaleUp");
        up.default_value("selectPolicy", "Max");
        up.default_value("stabilizationWindowSeconds", 0);
        up.default_value(
            "policies",
            json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
        let down = behavior.make("scaleDown");
        down.default_value("selectPolicy", "Max");
        down.default_value("policies", json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
    }
}
