//! CSIStorageCapacity.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_update: update, ..Rules::NONE };

fn validate(capacity: &C) {
    crate::meta_v1::label_selector(&capacity.get("nodeTopology"));
    capacity.get("storageClassName").check(meta::names::dns1123_subdomain);
    for field in ["capacity", "maximumVolumeSize"] {
        let size = capacity.get(field);
        if size.value().and_then(crate::resources::quantity).is_some_and(|q| q.sign() < 0) {
            size.invalid("must be greater than or equal to 0");
        }
    }
}

fn update(new: &C, old: &C) {
    for field in ["nodeTopology", "storageClassName"] {
        new.get(field).immutable(&old.get(field));
    }
}
