//! FlowSchema.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    body.make("spec").default_nonzero("matchingPrecedence", 1000);
}
