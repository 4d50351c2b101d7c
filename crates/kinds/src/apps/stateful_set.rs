//! StatefulSet.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, CONTAINERS, IMAGES, NAME, age, containers_and_images, int_at, text};
use crate::standard::Standard;

static STATEFUL_SET: Standard = Standard {
    rules: rules::apps::stateful_set::RULES,
    status: true,
    generation: true,
    columns: &[NAME, text("Ready"), AGE, CONTAINERS, IMAGES],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "StatefulSet", "statefulsets", STATEFUL_SET.main()).short(&["sts"]).categories(&["all"]).scale().status(STATEFUL_SET.status())
}

fn cells(set: &Object, now: i64) -> Vec<Value> {
    let [names, images] = containers_and_images(set, &["spec", "template", "spec", "containers"]);
    let ready = int_at(set, &["status", "readyReplicas"]);
    vec![
        set.name().into(),
        format!("{ready}/{}", int_at(set, &["spec", "replicas"])).into(),
        age(set, now).into(),
        names,
        images,
    ]
}
