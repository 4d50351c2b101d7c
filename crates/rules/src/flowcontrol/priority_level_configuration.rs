//! PriorityLevelConfiguration.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    let Some(spec) = body.child("spec") else { return };
    if let Some(exempt) = spec.child("exempt") {
        exempt.default_value("nominalConcurrencyShares", 0);
        exempt.default_value("lendablePercent", 0);
    }
    if let Some(limited) = spec.child("limited") {
        limited.default_value("nominalConcurrencyShares", 30);
        limited.default_value("lendablePercent", 0);
        if let Some(queuing) = limited.descend(&["limitResponse", "queuing"]) {
            queuing.default_nonzero("handSize", 8);
            queuing.default_nonzero("queues", 64);
            queuing.default_nonzero("queueLengthLimit", 50);
        }
    }
}
