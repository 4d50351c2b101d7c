//! Deployment.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("replicas", 1);
    spec.default_value("revisionHistoryLimit", 10);
    spec.default_value("progressDeadlineSeconds", 600);
    let strategy = spec.make("strategy");
    strategy.default_str("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.make("rollingUpdate");
        rolling.default_value("maxUnavailable", "25%");
        rolling.default_value("maxSurge", "25%");
    }
    crate::core::pod_defaults::template(spec);
}
