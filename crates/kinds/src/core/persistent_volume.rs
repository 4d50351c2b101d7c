//! PersistentVolume.

use meta::Object;
use registry::{Ctx, KindRow};
use serde_json::Value;

use super::persistent_volume_claim::{access_modes, or_unset, storage_class};
use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static VOLUME: Standard = Standard {
    rules: rules::core::persistent_volume::RULES,
    status: true,
    columns: &[
        NAME,
        text("Capacity"),
        text("Access Modes"),
        text("Reclaim Policy"),
        text("Status"),
        text("Claim"),
        text("StorageClass"),
        text("VolumeAttributesClass"),
        text("Reason"),
        AGE,
        text("VolumeMode").wide(),
    ],
    cells,
    prepare_create,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "PersistentVolume", "persistentvolumes", VOLUME.main())
        .cluster_scoped()
        .short(&["pv"])
        .status(VOLUME.status())
}

fn prepare_create(_cx: &Ctx, volume: &mut Object) {
    volume.set(&["status", "phase"], "Pending".into());
}

fn cells(volume: &Object, now: i64) -> Vec<Value> {
    let phase = match volume.deletion_timestamp() {
        Some(_) => "Terminating",
        None => volume.get_str(&["status", "phase"]),
    };
    let claim = match volume.get(&["spec", "claimRef"]).filter(|c| c.is_object()) {
        Some(_) => {
            let part = |field: &str| volume.get_str(&["spec", "claimRef", field]).to_owned();
            format!("{}/{}", part("namespace"), part("name"))
        }
        None => String::new(),
    };
    vec![
        volume.name().into(),
        match volume.get_str(&["spec", "capacity", "storage"]) {
            "" => "0".into(),
            size => size.into(),
        },
        access_modes(volume.get(&["spec", "accessModes"])).into(),
        volume.get_str(&["spec", "persistentVolumeReclaimPolicy"]).into(),
        phase.into(),
        claim.into(),
        storage_class(volume).into(),
        or_unset(volume, &["spec", "volumeAttributesClassName"]),
        volume.get_str(&["status", "reason"]).into(),
        age(volume, now).into(),
        or_unset(volume, &["spec", "volumeMode"]),
    ]
}
