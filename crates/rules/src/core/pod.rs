//! Pod.

use super::pod_spec::{self, Holder};
use crate::{C, Rules};

/// Rules of the kind.
pub const RULES: Rules = Rules {
    default: super::pod_defaults::pod,
    validate: create,
    validate_update: super::pod_update::update,
    validate_status: super::pod_update::status,
    revalidate: false,
};

fn create(pod: &C) {
    metadata_and_spec(pod);
    let spec = pod.get("spec");
    if !spec.get("ephemeralContainers").is_empty() {
        spec.get("ephemeralContainers").forbidden("cannot be set on create");
    }
    if !spec.get("nodeName").is_zero() && !spec.get("schedulingGates").is_empty() {
        spec.get("nodeName").forbidden("cannot be set until all schedulingGates have been cleared");
    }
}

/// What holds on create and on update.
pub(super) fn metadata_and_spec(pod: &C) {
    mirror_annotations(pod);
    let spec = pod.get("spec");
    pod_spec::validate(&spec, Holder::Pod, pod.get("metadata.name").str());
    if spec.get("serviceAccountName").is_zero() {
        for volume in spec.get("volumes").items() {
            for source in volume.get("projected.sources").items() {
                let token = source.get("serviceAccountToken");
                if token.exists() {
                    token.forbidden("must not be specified when serviceAccountName is not set");
                }
            }
        }
    }
}

/// A pod that mirrors a static one must name its node.
fn mirror_annotations(pod: &C) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let annotations = pod.get("metadata.annotations");
    let mirror = annotations.key(MIRROR);
    if mirror.exists() && pod.get("spec.nodeName").is_zero() {
        mirror.invalid("must set spec.nodeName if mirror pod annotation is set");
    }
}
