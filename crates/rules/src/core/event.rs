//! Event.

use meta::names;

use crate::{C, Rules};

/// Rules of the core group's events; they have no defaults.
pub const RULES: Rules = Rules {
    validate: |event| common(event, "reportingComponent"),
    validate_update: |new, _| common(new, "reportingComponent"),
    revalidate: false,
    ..Rules::NONE
};
/// Rules of the same objects when they come through `events.k8s.io`.
pub const NEW_RULES: Rules =
    Rules { validate: validate_new, validate_update: update_new, revalidate: false, ..Rules::NONE };

/// What holds whichever way an event comes; an event with a time follows the newer, stricter rules.
fn common(event: &C, controller_field: &str) {
    let namespace = event.get("metadata.namespace");
    let involved = event.get("involvedObject.namespace");
    const MISMATCH: &str = "does not match event.namespace";
    if event.get("eventTime").is_zero() {
        let fine = if involved.is_zero() {
            matches!(namespace.str(), "" | "default")
        } else {
            involved.str() == namespace.str()
        };
        if !fine {
            involved.invalid_value(involved.str(), MISMATCH);
        }
        return;
    }
    if involved.is_zero() && !matches!(namespace.str(), "default" | "kube-system") {
        involved.invalid_value(involved.str(), MISMATCH);
    }
    let controller = event.get("reportingComponent");
    let place = event.get(controller_field);
    if controller.is_zero() {
        place.missing("");
    }
    for finding in names::qualified_name(controller.str()) {
        place.invalid_value(controller.str(), finding);
    }
    for (field, most, needed) in
        [("reportingInstance", 128, true), ("action", 128, true), ("reason", 128, true), ("message", 1024, false)]
    {
        let value = event.get(field);
        if needed && value.is_zero() {
            value.missing("");
        }
        if value.len() > most {
            value.invalid_value("", format!("can have at most {most} characters"));
        }
    }
}

fn validate_new(event: &C) {
    common(event, "reportingController");
    series(event);
    if event.get("eventTime").is_zero() {
        event.get("eventTime").missing("");
    }
    let kind = event.get("type");
    if !matches!(kind.str(), "Normal" | "Warning") {
        kind.invalid_value("", format!("has invalid value: {}", kind.str()));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count"] {
        let value = event.get(field);
        if !value.is_zero() {
            value.invalid_value("", "needs to be unset");
        }
    }
    let source = event.get("source");
    if !source.get("component").is_zero() || !source.get("host").is_zero() {
        source.invalid_value("", "needs to be unset");
    }
}

fn series(event: &C) {
    let series = event.get("series");
    if !series.exists() {
        return;
    }
    if series.get("count").int() < 2 {
        series.get("count").invalid_value("", "should be at least 2");
    }
    series.get("lastObservedTime").required();
}

/// Only the series may change.
fn update_new(new: &C, old: &C) {
    common(new, "reportingController");
    if !new.get("series").same(&old.get("series")) {
        series(new);
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
        "reportingInstance",
    ] {
        new.get(field).immutable(&old.get(field));
    }
    if new.get("reportingComponent").str() != old.get("reportingComponent").str() {
        let place = new.get("reportingController");
        place.invalid_value(new.get("reportingComponent").str(), "field is immutable");
    }
}
