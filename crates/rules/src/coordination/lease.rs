//! Lease.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, ..Rules::NONE };

fn validate(lease: &C) {
    let spec = lease.get("spec");
    let duration = spec.get("leaseDurationSeconds");
    if duration.exists() && duration.int() <= 0 {
        duration.invalid("must be greater than 0");
    }
    spec.get("leaseTransitions").non_negative();
    let preferred = spec.get("preferredHolder");
    if !preferred.is_zero() && spec.get("strategy").is_zero() {
        preferred.forbidden("may only be specified when `strategy` is defined");
    }
}
