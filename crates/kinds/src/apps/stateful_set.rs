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
    decorator: Some(claim_kinds),
    columns: &[NAME, text("Ready"), AGE, CONTAINERS, IMAGES],
    cells,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "StatefulSet", "statefulsets", STATEFUL_SET.main())
        .short(&["sts"])
        .categories(&["all"])
        .scale()
        .status(STATEFUL_SET.status())
}

/// Claims in the templates say what they are; the stored form does not carry it.
fn claim_kinds(set: &mut Object) {
    let claims = set.spec_mut().get_mut("volumeClaimTemplates").and_then(Value::as_array_mut);
    for claim in claims.into_iter().flatten().filter_map(Value::as_object_mut) {
        claim.insert("apiVersion".into(), "v1".into());
        claim.insert("kind".into(), "PersistentVolumeClaim".into());
    }
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
