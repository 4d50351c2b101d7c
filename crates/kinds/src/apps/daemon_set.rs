//! DaemonSet.

use meta::Object;
use registry::{Ctx, KindRow};
use serde_json::Value;

use super::GROUP;
use crate::printer::{
    AGE, CONTAINERS, IMAGES, NAME, SELECTOR, age, containers_and_images, format_map, format_selector, int, int_at, text,
};
use crate::standard::Standard;

static DAEMON_SET: Standard = Standard {
    rules: rules::apps::daemon_set::RULES,
    status: true,
    generation: true,
    prepare_create,
    prepare_update,
    columns: &[
        NAME,
        int("Desired"),
        int("Current"),
        int("Ready"),
        int("Up-to-date"),
        int("Available"),
        text("Node Selector"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "DaemonSet", "daemonsets", DAEMON_SET.main())
        .short(&["ds"])
        .categories(&["all"])
        .status(DAEMON_SET.status())
}

fn cells(set: &Object, now: i64) -> Vec<Value> {
    let count = |field: &str| Value::from(int_at(set, &["status", field]));
    let [names, images] = containers_and_images(set, &["spec", "template", "spec", "containers"]);
    vec![
        set.name().into(),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        format_map(set.get(&["spec", "template", "spec", "nodeSelector"])).into(),
        age(set, now).into(),
        names,
        images,
        format_selector(set.get(&["spec", "selector"])).into(),
    ]
}

/// The old counter of template changes, which only the server raises.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn prepare_create(_cx: &Ctx, set: &mut Object) {
    set.set_annotation(TEMPLATE_GENERATION, "1");
}

fn prepare_update(_cx: &Ctx, set: &mut Object, old: &Object) {
    let before = old.annotation(TEMPLATE_GENERATION).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let changed = set.get(&["spec", "template"]) != old.get(&["spec", "template"]);
    set.set_annotation(TEMPLATE_GENERATION, &(before + i64::from(changed)).to_string());
}
