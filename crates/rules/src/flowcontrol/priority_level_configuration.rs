//! PriorityLevelConfiguration.

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, ..Rules::NONE };

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

fn validate(level: &C) {
    let spec = level.get("spec");
    let (kind, limited, exempt) = (spec.get("type"), spec.get("limited"), spec.get("exempt"));
    if (level.get("metadata.name").str() == "exempt") != (kind.str() == "Exempt") {
        kind.invalid("type must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind.str() {
        "Exempt" => {
            if limited.exists() {
                limited.forbidden("must be nil if the type is not Limited");
            }
        }
        "Limited" => {
            if exempt.exists() {
                exempt.forbidden("must be nil if the type is Limited");
            }
            if limited.exists() {
                self::limited(&limited);
            } else {
                limited.missing("must not be empty when type is Limited");
            }
        }
        _ => kind.not_supported(&["Exempt", "Limited"]),
    }
}

fn limited(limited: &C) {
    let shares = limited.get("nominalConcurrencyShares");
    if shares.int() < 0 {
        shares.invalid("must be a non-negative integer");
    }
    let lendable = limited.get("lendablePercent");
    if !(0..=100).contains(&lendable.int()) {
        lendable.invalid("must be between 0 and 100, inclusive");
    }
    let response = limited.get("limitResponse");
    let queuing = response.get("queuing");
    match response.get("type").str() {
        "Reject" => {
            if queuing.exists() {
                queuing.forbidden("must be nil if limited.limitResponse.type is not Limited");
            }
        }
        "Queue" => {
            if !queuing.exists() {
                return queuing.missing("must not be empty if limited.limitResponse.type is Limited");
            }
            for field in ["queueLengthLimit", "queues", "handSize"] {
                let number = queuing.get(field);
                if number.int() <= 0 {
                    number.invalid_value(number.int(), "must be positive");
                }
            }
            let hand = queuing.get("handSize");
            if hand.int() > queuing.get("queues").int() {
                hand.invalid("should not be greater than queues");
            }
        }
        _ => response.get("type").not_supported(&["Queue", "Reject"]),
    }
}
