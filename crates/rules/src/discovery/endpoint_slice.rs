//! EndpointSlice.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    for port in body.each("ports") {
        port.default_value("name", "");
        port.default_value("protocol", "TCP");
    }
}
