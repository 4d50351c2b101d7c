//! Deployment.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers_and_images, format_selector, int_at, text,
};
use crate::standard::Standard;

static DEPLOYMENT: Standard = Standard {
    rules: rules::apps::deployment::RULES,
    status: true,
    generation: true,
    columns: &[NAME, text("Ready"), text("Up-to-date"), text("Available"), AGE, CONTAINERS, IMAGES, SELECTOR],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "Deployment", "deployments", DEPLOYMENT.main())
        .short(&["deploy"])
        .categories(&["all"])
        .scale()
        .status(DEPLOYMENT.part(&["status"], &["labels"], |_, _| {}))
}

fn cells(deployment: &Object, now: i64) -> Vec<Value> {
    let count = |field: &str| int_at(deployment, &["status", field]);
    let [names, images] = containers_and_images(deployment, &["spec", "template", "spec", "containers"]);
    vec![
        deployment.name().into(),
        format!("{}/{}", count("readyReplicas"), int_at(deployment, &["spec", "replicas"])).into(),
        count("updatedReplicas").into(),
        count("availableReplicas").into(),
        age(deployment, now).into(),
        names,
        images,
        format_selector(deployment.get(&["spec", "selector"])).into(),
    ]
}
