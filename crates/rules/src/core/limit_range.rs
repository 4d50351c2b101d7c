//! LimitRange.

use serde_json::Value;

use crate::resources::round_up_milli;
use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

/// Of container limits, `default` follows `max`, and `defaultRequest` follows `default`, then `min`.
fn default(body: &mut Tree) {
    let Some(spec) = body.child("spec") else { return };
    for item in spec.each("limits") {
        if item.text("type") == "Container" {
            for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
                fill(item, from, to);
            }
        }
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            round_up_milli(item.child(list));
        }
    }
}

fn fill(item: &mut Tree, from: &str, to: &str) {
    let source = item.get(from).and_then(Value::as_object).cloned();
    for (name, value) in source.into_iter().flatten() {
        item.make(to).entry(name).or_insert(value);
    }
}
