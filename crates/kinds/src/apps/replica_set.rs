//! ReplicaSet.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers_and_images, format_selector, int, int_at,
};
use crate::standard::Standard;

static REPLICA_SET: Standard = Standard {
    rules: rules::apps::replica_set::RULES,
    status: true,
    generation: true,
    columns: &[NAME, int("Desired"), int("Current"), int("Ready"), AGE, CONTAINERS, IMAGES, SELECTOR],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "ReplicaSet", "replicasets", REPLICA_SET.main())
        .short(&["rs"])
        .categories(&["all"])
        .scale()
        .status(REPLICA_SET.status())
}

fn cells(set: &Object, now: i64) -> Vec<Value> {
    let [names, images] = containers_and_images(set, &["spec", "template", "spec", "containers"]);
    vec![
        set.name().into(),
        int_at(set, &["spec", "replicas"]).into(),
        int_at(set, &["status", "replicas"]).into(),
        int_at(set, &["status", "readyReplicas"]).into(),
        age(set, now).into(),
        names,
        images,
        format_selector(set.get(&["spec", "selector"])).into(),
    ]
}
