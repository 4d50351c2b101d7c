//! ReplicaSet.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("replicas", 1);
    crate::core::pod_defaults::template(spec);
}
