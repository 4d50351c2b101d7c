//! Resource lists and quantities as they stand in a tree.

use meta::quantity::Quantity;
use serde_json::Value;

use crate::{Defaults, Tree};

/// The quantity in a value: a string or, as JSON allows, a number.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Canonical text, rounded up to thousandths as upstream defaults every resource list.
pub fn round_up_milli(list: Option<&mut Tree>) {
    const MILLI_NANOS: i128 = 1_000_000;
    for value in list.into_iter().flatten().map(|(_, v)| v) {
        if let Some(parsed) = quantity(value) {
            let rounded =
                if parsed.nanos() % MILLI_NANOS == 0 { parsed } else { Quantity::from_millis(parsed.milli_value()) };
            *value = Value::String(rounded.to_string());
        }
    }
}

/// Rounds `limits` and `requests` of a resource requirement.
pub fn round_requirements(resources: Option<&mut Tree>) {
    if let Some(resources) = resources {
        round_up_milli(resources.child("limits"));
        round_up_milli(resources.child("requests"));
    }
}

/// Requests that are absent become the limits of the same name.
pub fn requests_from_limits(resources: Option<&mut Tree>) {
    let Some(resources) = resources else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let requests = resources.make("requests");
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}
