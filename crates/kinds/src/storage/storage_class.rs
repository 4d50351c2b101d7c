//! StorageClass.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static CLASS: Standard = Standard {
    rules: rules::storage::storage_class::RULES,
    columns: &[
        NAME,
        text("Provisioner"),
        text("ReclaimPolicy"),
        text("VolumeBindingMode"),
        text("AllowVolumeExpansion"),
        AGE,
    ],
    cells,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "StorageClass", "storageclasses", CLASS.main()).cluster_scoped().short(&["sc"])
}

fn cells(class: &Object, now: i64) -> Vec<Value> {
    const DEFAULT: [&str; 2] =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let default = DEFAULT.iter().any(|key| class.annotation(key) == Some("true"));
    let name = if default { format!("{} (default)", class.name()) } else { class.name().to_owned() };
    let or = |field: &str, absent: &str| match class.get_str(&[field]) {
        "" => absent.to_owned(),
        given => given.to_owned(),
    };
    vec![
        name.into(),
        class.get_str(&["provisioner"]).into(),
        or("reclaimPolicy", "Delete").into(),
        or("volumeBindingMode", "Immediate").into(),
        class.get_bool(&["allowVolumeExpansion"]).unwrap_or(false).into(),
        age(class, now).into(),
    ]
}
