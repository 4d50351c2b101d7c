//! Event.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_update: update, revalidate: false, ..Rules::NONE };

fn validate(event: &C) {
    legacy(event);
    if event.get("eventTime").is_zero() {
        return;
    }
    // The rest holds for events that were made through the new API, which have a time.
    let controller = event.get("reportingComponent");
    if controller.required() {
        controller.check(meta::names::qualified_name);
    }
    let instance = event.get("reportingInstance");
    if instance.required() {
        instance.max_len(128);
    }
    let action = event.get("action");
    if action.required() {
        action.max_len(128);
    }
    let reason = event.get("reason");
    if reason.required() {
        reason.max_len(128);
    }
    event.get("message").max_len(1024);
    event.get("type").one_of(&["Normal", "Warning"]);
}

/// The event lives where the object does that it is about.
fn legacy(event: &C) {
    let namespace = event.get("metadata.namespace");
    let involved = event.get("involvedObject.namespace");
    let allowed = if involved.is_zero() {
        matches!(namespace.str(), "" | "default" | "kube-system")
    } else {
        involved.str() == namespace.str()
    };
    if !allowed {
        involved.invalid_value(involved.str(), "does not match event.namespace");
    }
}

/// Only the series and what goes with it may change in an event of the new kind.
fn update(new: &C, old: &C) {
    legacy(new);
    if new.get("eventTime").is_zero() && old.get("eventTime").is_zero() {
        return;
    }
    for field in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ] {
        new.get(field).immutable(&old.get(field));
    }
}
