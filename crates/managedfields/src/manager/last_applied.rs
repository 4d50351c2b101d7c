//! The step from client-side to server-side apply: kubectl's annotation.

use meta::Object;
use serde_json::Value;

use super::{FieldManager, bare};
use crate::set::Set;
use crate::typed::{compare, to_set, validate};

/// kubectl's annotation with the configuration it applied last.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that kubectl applied on the client and that still are as it left them.
pub(super) fn allowed(manager: &FieldManager<'_>, live: &Object) -> Option<Set> {
    let text = live.annotation(ANNOTATION).filter(|t| !t.is_empty())?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last.get("apiVersion").and_then(Value::as_str) != Some(manager.api_version) {
        return None;
    }
    let shape = manager.versions.shape(manager.api_version)?;
    if !validate(&last, &shape, false).is_empty() {
        return None;
    }
    let change = compare(&last, &bare(live), &shape);
    let set = to_set(&last, &shape);
    Some(set.difference(&change.modified).difference(&change.added).difference(&change.removed))
}

/// Brings the annotation up to date when the object has one.
pub(super) fn refresh(object: &mut Object, patch: &Object) {
    if object.annotation(ANNOTATION).is_none_or(str::is_empty) {
        return;
    }
    let mut copy = patch.clone();
    copy.remove(&["metadata", "annotations", ANNOTATION]);
    if let Ok(mut text) = serde_json::to_string(&copy.body) {
        text.push('\n');
        object.set_annotation(ANNOTATION, &text);
    }
}
