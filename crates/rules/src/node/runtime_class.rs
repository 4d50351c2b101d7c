//! RuntimeClass.

use crate::resources::round_up_milli;
use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    round_up_milli(body.descend(&["overhead", "podFixed"]));
}
