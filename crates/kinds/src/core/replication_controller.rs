//! ReplicationController.

use meta::Object;
use registry::{KindRow, SelectableField};
use serde_json::Value;

use crate::printer::{AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers_and_images, format_map, int, int_at};
use crate::standard::Standard;

static CONTROLLER: Standard = Standard {
    rules: rules::core::replication_controller::RULES,
    status: true,
    generation: true,
    orphans: true,
    fields: &[SelectableField::path_or("status.replicas", &["status", "replicas"], "0")],
    columns: &[NAME, int("Desired"), int("Current"), int("Ready"), AGE, CONTAINERS, IMAGES, SELECTOR],
    cells,
    ..Standard::PLAIN
};

/// The row; the kind lives under the key of its first name.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "ReplicationController", "replicationcontrollers", CONTROLLER.main())
        .short(&["rc"])
        .categories(&["all"])
        .prefix("/registry/controllers")
        .scale()
        .status(CONTROLLER.status())
}

fn cells(controller: &Object, now: i64) -> Vec<Value> {
    let [names, images] = containers_and_images(controller, &["spec", "template", "spec", "containers"]);
    vec![
        controller.name().into(),
        int_at(controller, &["spec", "replicas"]).into(),
        int_at(controller, &["status", "replicas"]).into(),
        int_at(controller, &["status", "readyReplicas"]).into(),
        age(controller, now).into(),
        names,
        images,
        format_map(controller.get(&["spec", "selector"])).into(),
    ]
}
