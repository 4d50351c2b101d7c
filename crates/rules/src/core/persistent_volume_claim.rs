//! PersistentVolumeClaim.

use crate::resources::{round_requirements, round_up_milli};
use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

/// Defaults of a claim, also of one in a StatefulSet's templates.
pub fn default(body: &mut Tree) {
    default_spec(body.make("spec"));
    let status = body.make("status");
    status.default_str("phase", "Pending");
    round_up_milli(status.child("capacity"));
    round_up_milli(status.child("allocatedResources"));
}

/// Defaults of a claim's spec, also of an ephemeral volume's.
pub fn default_spec(spec: &mut Tree) {
    spec.default_value("volumeMode", "Filesystem");
    round_requirements(spec.child("resources"));
}
