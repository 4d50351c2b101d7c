//! ResourceQuota.

use crate::resources::round_up_milli;
use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    for (part, list) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
        round_up_milli(body.descend(&[part, list]));
    }
}
