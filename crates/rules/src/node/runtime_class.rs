//! RuntimeClass.

use crate::resources::round_up_milli;
use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, validate_update: update, ..Rules::NONE };

fn default(body: &mut Tree) {
    round_up_milli(body.descend(&["overhead", "podFixed"]));
}

fn validate(class: &C) {
    let handler = class.get("handler");
    if handler.required() {
        handler.check(meta::names::dns1123_label);
    }
    let overhead = class.get("overhead");
    if let Some(fixed) = overhead.get("podFixed").value() {
        crate::core::pod_spec::overhead(&overhead.with_value(fixed));
    }
    crate::meta_v1::labels(&class.get("scheduling.nodeSelector"));
    crate::core::pod_spec::tolerations(&class.get("scheduling.tolerations"));
}

fn update(new: &C, old: &C) {
    new.get("handler").immutable(&old.get("handler"));
}
