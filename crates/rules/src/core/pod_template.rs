//! PodTemplate.

use crate::{Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    super::pod_defaults::template(body);
}
