//! VolumeAttributesClass.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_update: update, ..Rules::NONE };

fn validate(class: &C) {
    super::storage_class::provisioner(&class.get("driverName"));
    let parameters = class.get("parameters");
    super::storage_class::parameters(&parameters);
    if parameters.is_empty() {
        parameters.missing("must contain at least one key/value pair");
    }
}

fn update(new: &C, old: &C) {
    for field in ["driverName", "parameters"] {
        if !new.get(field).same(&old.get(field)) {
            new.get(field).forbidden(format!("updates to {field} are forbidden."));
        }
    }
}
