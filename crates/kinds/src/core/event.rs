//! Event, served by the core group and, under other field names, by `events.k8s.io`.

use meta::{GroupVersionKind, Object};
use registry::{KindRow, SelectableField};
use serde_json::Value;

use crate::printer::{since, str_in, text};
use crate::standard::Standard;

const EVENT_PARTS: Standard = Standard {
    rules: rules::core::event::RULES,
    create_on_update: true,
    fields: CORE_FIELDS,
    columns: &[
        text("Last Seen"),
        text("Type"),
        text("Reason"),
        text("Object"),
        text("Subobject").wide(),
        text("Source").wide(),
        text("Message"),
        text("First Seen").wide(),
        text("Count").wide(),
        text("Name").named().wide(),
    ],
    cells,
    // Upstream's --event-ttl.
    ttl_seconds: Some(3600),
    ..Standard::PLAIN
};

static EVENT: Standard = EVENT_PARTS;
static NEW_EVENT: Standard = Standard { rules: rules::core::event::NEW_RULES, fields: NEW_FIELDS, ..EVENT_PARTS };

const fn involved(name: &'static str, path: &'static [&'static str]) -> SelectableField {
    SelectableField::path(name, path)
}

const CORE_FIELDS: &[SelectableField] = &[
    involved("involvedObject.kind", &["involvedObject", "kind"]),
    involved("involvedObject.namespace", &["involvedObject", "namespace"]),
    involved("involvedObject.name", &["involvedObject", "name"]),
    involved("involvedObject.uid", &["involvedObject", "uid"]),
    involved("involvedObject.apiVersion", &["involvedObject", "apiVersion"]),
    involved("involvedObject.resourceVersion", &["involvedObject", "resourceVersion"]),
    involved("involvedObject.fieldPath", &["involvedObject", "fieldPath"]),
    SelectableField::path("reason", &["reason"]),
    SelectableField::path("reportingComponent", &["reportingComponent"]),
    SelectableField::computed("source", |event| match event.get_str(&["source", "component"]) {
        "" => event.get_str(&["reportingComponent"]).to_owned(),
        component => component.to_owned(),
    }),
    SelectableField::path("type", &["type"]),
];

const NEW_FIELDS: &[SelectableField] = &[
    involved("regarding.kind", &["involvedObject", "kind"]),
    involved("regarding.namespace", &["involvedObject", "namespace"]),
    involved("regarding.name", &["involvedObject", "name"]),
    involved("regarding.uid", &["involvedObject", "uid"]),
    involved("regarding.apiVersion", &["involvedObject", "apiVersion"]),
    involved("regarding.resourceVersion", &["involvedObject", "resourceVersion"]),
    involved("regarding.fieldPath", &["involvedObject", "fieldPath"]),
    SelectableField::path("reason", &["reason"]),
    SelectableField::path("reportingController", &["reportingComponent"]),
    SelectableField::path("type", &["type"]),
];

/// The row of the core group.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "Event", "events", EVENT.main()).short(&["ev"])
}

/// The row of `events.k8s.io`, which shares the core row's objects.
pub fn new_row() -> KindRow {
    let mut row = KindRow::new("events.k8s.io", "v1", "Event", "events", NEW_EVENT.main()).short(&["ev"]).stored_as(
        "",
        "v1",
        "Event",
        rules::events::convert::convert,
    );
    row.hub = GroupVersionKind::new("", "v1", "Event");
    row
}

fn cells(event: &Object, now: i64) -> Vec<Value> {
    let time = |path: &[&str]| event.get_str(path);
    let first = match time(&["firstTimestamp"]) {
        "" => since(time(&["eventTime"]), now),
        at => since(at, now),
    };
    let mut last = match time(&["lastTimestamp"]) {
        "" => first.clone(),
        at => since(at, now),
    };
    let mut count = event.get_i64(&["count"]).unwrap_or(0);
    if event.get(&["series"]).is_some_and(Value::is_object) {
        last = since(time(&["series", "lastObservedTime"]), now);
        count = event.get_i64(&["series", "count"]).unwrap_or(0);
    } else if count == 0 {
        count = 1;
    }
    let kind = event.get_str(&["involvedObject", "kind"]).to_lowercase();
    let object = match event.get_str(&["involvedObject", "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        event.get_str(&["type"]).into(),
        event.get_str(&["reason"]).into(),
        object.into(),
        event.get_str(&["involvedObject", "fieldPath"]).into(),
        source(event).into(),
        event.get_str(&["message"]).trim().into(),
        first.into(),
        count.into(),
        event.name().into(),
    ]
}

fn source(event: &Object) -> String {
    let given = event.get(&["source"]).unwrap_or(&Value::Null);
    let first = |a: &str, b: &str| if a.is_empty() { b.to_owned() } else { a.to_owned() };
    let component = first(str_in(given, "component"), event.get_str(&["reportingComponent"]));
    let instance = first(str_in(given, "host"), event.get_str(&["reportingInstance"]));
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}
