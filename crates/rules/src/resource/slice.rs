//! ResourceSlice.

use crate::{C, Rules};

/// Rules of the kind. A taint's `timeAdded` is set by the pipeline's strategy, which has the clock.
pub const RULES: Rules = Rules { validate, validate_update: update, ..Rules::NONE };

fn validate(slice: &C) {
    let spec = slice.get("spec");
    let driver = spec.get("driver");
    if driver.required() {
        driver.check(meta::names::dns1123_subdomain);
    }
    spec.get("pool.name").required();
    let mut names: Vec<&str> = Vec::new();
    for device in spec.get("devices").items() {
        let name = device.get("name");
        if name.required() {
            name.check(meta::names::dns1123_label);
        }
        if names.contains(&name.str()) {
            name.duplicate();
        }
        names.push(name.str());
    }
}

fn update(new: &C, old: &C) {
    for field in ["driver", "pool.name", "nodeName"] {
        let (spec, before) = (new.get("spec"), old.get("spec"));
        spec.get(field).immutable(&before.get(field));
    }
}
