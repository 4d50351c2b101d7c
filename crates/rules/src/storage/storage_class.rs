//! StorageClass.

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, validate_update: update, ..Rules::NONE };

fn default(body: &mut Tree) {
    body.default_value("reclaimPolicy", "Delete");
    body.default_value("volumeBindingMode", "Immediate");
}

fn validate(class: &C) {
    provisioner(&class.get("provisioner"));
    parameters(&class.get("parameters"));
    class.get("reclaimPolicy").optional_one_of(&["Delete", "Retain"]);
    class.get("volumeBindingMode").required_one_of(&["Immediate", "WaitForFirstConsumer"]);
    for term in class.get("allowedTopologies").items() {
        for expression in term.get("matchLabelExpressions").items() {
            crate::meta_v1::label_name(&expression.get("key"));
            expression.get("values").required();
        }
    }
}

/// The name of a provisioner or driver.
pub fn provisioner(name: &C) {
    if name.required() {
        for finding in meta::names::qualified_name(&name.str().to_lowercase()) {
            name.invalid_value(name.str().to_lowercase(), finding);
        }
    }
}

/// Parameters: named, not too many, not too large.
pub fn parameters(map: &C) {
    const MOST: usize = 512;
    const MAX_BYTES: usize = 256 * 1024;
    if map.len() > MOST {
        return map.sink().push(meta::field::Error::too_long(&map.path(), MOST));
    }
    let mut total = 0;
    for (key, value) in map.entries() {
        if key.is_empty() {
            map.invalid_value(key, "field can not be empty.");
        }
        total += key.len() + value.len();
    }
    if total > MAX_BYTES {
        map.sink().push(meta::field::Error::too_long(&map.path(), MAX_BYTES));
    }
}

fn update(new: &C, old: &C) {
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        new.get(field).immutable(&old.get(field));
    }
}
