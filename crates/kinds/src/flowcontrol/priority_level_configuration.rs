//! PriorityLevelConfiguration.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, NONE, age, text};
use crate::standard::Standard;

static LEVEL: Standard = Standard {
    rules: rules::flowcontrol::priority_level_configuration::RULES,
    status: true,
    generation: true,
    columns: &[
        NAME,
        text("Type"),
        text("NominalConcurrencyShares"),
        text("Queues"),
        text("HandSize"),
        text("QueueLengthLimit"),
        AGE,
    ],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "PriorityLevelConfiguration", "prioritylevelconfigurations", LEVEL.main())
        .cluster_scoped()
        .status(LEVEL.status_only())
}

fn cells(level: &Object, now: i64) -> Vec<Value> {
    let limited = ["spec", "limited"];
    let number = |path: &[&str]| {
        level.get(&[&limited[..], path].concat()).filter(|v| v.is_number()).cloned().unwrap_or(NONE.into())
    };
    let queuing = |field: &str| number(&["limitResponse", "queuing", field]);
    vec![
        level.name().into(),
        level.get_str(&["spec", "type"]).into(),
        number(&["nominalConcurrencyShares"]),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        age(level, now).into(),
    ]
}
