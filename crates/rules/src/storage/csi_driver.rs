//! CSIDriver.

use serde_json::json;

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

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
