//! PriorityClass.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    body.default_value("preemptionPolicy", "PreemptLowerPriority");
}
