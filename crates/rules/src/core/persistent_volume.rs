//! PersistentVolume.

use crate::resources::round_up_milli;
use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    body.make("status").default_str("phase", "Pending");
    let spec = body.make("spec");
    spec.default_str("persistentVolumeReclaimPolicy", "Retain");
    spec.default_value("volumeMode", "Filesystem");
    round_up_milli(spec.child("capacity"));
    super::pod_defaults::network_sources(spec);
}
