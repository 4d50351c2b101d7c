//! FlowSchema.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, int_at, list, or_none, str_in, text};
use crate::standard::Standard;

static SCHEMA: Standard = Standard {
    rules: rules::flowcontrol::flow_schema::RULES,
    status: true,
    generation: true,
    columns: &[
        NAME,
        text("PriorityLevel"),
        text("MatchingPrecedence"),
        text("DistinguisherMethod"),
        AGE,
        text("MissingPL"),
    ],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "FlowSchema", "flowschemas", SCHEMA.main()).cluster_scoped().status(SCHEMA.status_only())
}

fn cells(schema: &Object, now: i64) -> Vec<Value> {
    let dangling = list(schema, &["status", "conditions"]).iter().find(|c| str_in(c, "type") == "Dangling");
    vec![
        schema.name().into(),
        schema.get_str(&["spec", "priorityLevelConfiguration", "name"]).into(),
        int_at(schema, &["spec", "matchingPrecedence"]).into(),
        or_none(schema.get_str(&["spec", "distinguisherMethod", "type"])),
        age(schema, now).into(),
        dangling.map_or("?", |c| str_in(c, "status")).into(),
    ]
}
