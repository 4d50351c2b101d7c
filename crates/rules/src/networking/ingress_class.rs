//! IngressClass.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    if let Some(parameters) = body.descend(&["spec", "parameters"]) {
        parameters.default_value("scope", "Cluster");
    }
}
