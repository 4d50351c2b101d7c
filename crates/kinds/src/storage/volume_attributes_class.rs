//! VolumeAttributesClass.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static CLASS: Standard = Standard {
    rules: rules::storage::volume_attributes_class::RULES,
    columns: &[NAME, text("DriverName"), AGE],
    cells,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "VolumeAttributesClass", "volumeattributesclasses", CLASS.main())
        .cluster_scoped()
        .short(&["vac"])
}

fn cells(class: &Object, now: i64) -> Vec<Value> {
    let default = class.annotation("storageclass.kubernetes.io/is-default-class") == Some("true");
    let name = if default { format!("{} (default)", class.name()) } else { class.name().to_owned() };
    vec![name.into(), class.get_str(&["driverName"]).into(), age(class, now).into()]
}
