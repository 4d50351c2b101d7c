//! VolumeAttachment.

use meta::Object;
use registry::KindRow;
use serde_json::Value;

use super::GROUP;
use crate::printer::{AGE, NAME, age, boolean, text};
use crate::standard::Standard;

static ATTACHMENT: Standard = Standard {
    rules: rules::storage::volume_attachment::RULES,
    status: true,
    unconditional_update: false,
    columns: &[NAME, text("Attacher").named(), text("PV"), text("Node"), boolean("Attached"), AGE],
    cells,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new(GROUP, "v1", "VolumeAttachment", "volumeattachments", ATTACHMENT.main())
        .cluster_scoped()
        .status(ATTACHMENT.status_only())
}

fn cells(attachment: &Object, now: i64) -> Vec<Value> {
    vec![
        attachment.name().into(),
        attachment.get_str(&["spec", "attacher"]).into(),
        attachment.get_str(&["spec", "source", "persistentVolumeName"]).into(),
        attachment.get_str(&["spec", "nodeName"]).into(),
        attachment.get_bool(&["status", "attached"]).unwrap_or(false).into(),
        age(attachment, now).into(),
    ]
}
