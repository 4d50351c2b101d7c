//! CSIDriver.

use serde_json::json;

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, validate_update: update, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_value("attachRequired", true);
    for flag in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        spec.default_value(flag, false);
    }
    spec.default_value("fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec.unset("volumeLifecycleModes") {
        spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
    }
}

fn validate(driver: &C) {
    driver.get("metadata.name").max_len(63);
    let spec = driver.get("spec");
    for flag in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        spec.get(flag).required();
    }
    spec.get("fsGroupPolicy").required_one_of(&["File", "None", "ReadWriteOnceWithFSType"]);
    for mode in spec.get("volumeLifecycleModes").items() {
        if !matches!(mode.str(), "Ephemeral" | "Persistent") {
            let modes = spec.get("volumeLifecycleModes");
            let error = meta::field::Error::not_supported(&modes.path(), mode.str(), &["Persistent", "Ephemeral"]);
            modes.sink().push(error);
        }
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.exists() && period.int() < 10 {
        period.invalid("must be greater than or equal to 10 seconds");
    }
    let mut audiences: Vec<&str> = Vec::new();
    for request in spec.get("tokenRequests").items() {
        let audience = request.get("audience");
        if audiences.contains(&audience.str()) {
            audience.duplicate();
        }
        audiences.push(audience.str());
        let seconds = request.get("expirationSeconds");
        if seconds.exists() {
            if seconds.int() < 600 {
                seconds.invalid("may not specify a duration less than 10 minutes");
            }
            if seconds.int() > 1 << 32 {
                seconds.invalid("may not specify a duration larger than 2^32 seconds");
            }
        }
    }
}

fn update(new: &C, old: &C) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    if !spec.get("attachRequired").same(&before.get("attachRequired")) {
        spec.get("attachedRequired").invalid_value(spec.get("attachRequired").value_or_null(), "field is immutable");
    }
    spec.get("volumeLifecycleModes").immutable(&before.get("volumeLifecycleModes"));
}
