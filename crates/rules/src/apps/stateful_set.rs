//! StatefulSet.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

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
