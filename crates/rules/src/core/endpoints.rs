//! Endpoints.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    for subset in body.each("subsets") {
        for port in subset.each("ports") {
            port.default_str("protocol", "TCP");
        }
    }
}
