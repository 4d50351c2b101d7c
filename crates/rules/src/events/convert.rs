//! Conversion between `events.k8s.io/v1` and core events, which is the hub and the stored form.

use meta::{GroupVersionKind, Object, Status};
use serde_json::Value;

use crate::Tree;

/// Fields of `events.k8s.io/v1` with their core names; all others are called the same.
const RENAMED: [(&str, &str); 6] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// Core's names of the two controller fields differ in their spelling.
const CONTROLLER: [(&str, &str); 2] =
    [("reportingController", "reportingComponent"), ("reportingInstance", "reportingInstance")];

/// Converts either way.
///
/// # Errors
/// None today; the signature is the one of every conversion.
pub fn convert(object: &mut Object, from: &GroupVersionKind, to: &GroupVersionKind) -> Result<(), Status> {
    if from.group == to.group {
        return Ok(());
    }
    let into_core = to.group.is_empty();
    for (new, core) in RENAMED.iter().chain(&CONTROLLER) {
        let (source, target) = if into_core { (new, core) } else { (core, new) };
        rename(&mut object.body, source, target);
    }
    // Times are no pointers in Go: they are printed even when unset.
    let times: &[&str] = if into_core {
        &["firstTimestamp", "lastTimestamp", "eventTime"]
    } else {
        &["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "eventTime"]
    };
    for time in times {
        object.body.entry((*time).to_owned()).or_insert(Value::Null);
    }
    Ok(())
}

fn rename(body: &mut Tree, from: &str, to: &str) {
    if let Some(value) = body.remove(from).filter(|v| !matches!(v, Value::Null)) {
        body.insert(to.to_owned(), value);
    }
}
