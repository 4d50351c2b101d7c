//! ControllerRevision.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_update: update, ..Rules::NONE };

fn validate(revision: &C) {
    let data = revision.get("data");
    if !data.exists() {
        data.missing("data is mandatory");
    }
    revision.get("revision").non_negative();
}

fn update(new: &C, old: &C) {
    new.get("data").immutable(&old.get("data"));
}
