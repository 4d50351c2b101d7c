//! PodTemplate.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use crate::printer::{NAME, containers_and_images, format_map, text};
use crate::standard::Standard;

static POD_TEMPLATE: Standard = Standard {
    rules: rules::core::pod_template::RULES,
    generation: true,
    columns: &[NAME, text("Containers"), text("Images"), text("Pod Labels")],
    cells,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "PodTemplate", "podtemplates", POD_TEMPLATE.main())
}

fn cells(template: &Object, _now: i64) -> Vec<Value> {
    let [names, images] = containers_and_images(template, &["template", "spec", "containers"]);
    let labels = format_map(template.get(&["template", "metadata", "labels"]));
    vec![template.name().into(), names, images, labels.into()]
}
