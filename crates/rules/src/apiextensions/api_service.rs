//! APIService.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    if let Some(service) = body.descend(&["spec", "service"]) {
        service.default_value("port", 443);
    }
}
