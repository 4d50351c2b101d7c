//! VolumeAttachment.

use crate::resources::round_up_milli;
use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    if let Some(volume) = body.descend(&["spec", "source", "inlineVolumeSpec"]) {
        round_up_milli(volume.child("capacity"));
        crate::core::pod_defaults::network_sources(volume);
    }
}
