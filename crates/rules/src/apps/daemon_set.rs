//! DaemonSet.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("revisionHistoryLimit", 10);
    let strategy = spec.make("updateStrategy");
    strategy.default_str("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.make("rollingUpdate");
        rolling.default_value("maxUnavailable", 1);
        rolling.default_value("maxSurge", 0);
    }
    crate::core::pod_defaults::template(spec);
}
