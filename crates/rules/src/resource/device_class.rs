//! DeviceClass.

use meta::names;

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, ..Rules::NONE };

fn validate(class: &C) {
    let name = class.get("spec.extendedResourceName");
    if name.exists() && !is_extended_resource(name.str()) {
        name.invalid("must be a valid extended resource name");
    }
}

fn is_extended_resource(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}
