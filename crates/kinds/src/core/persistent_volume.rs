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
        .status(VOLUME.part(&["status"], &[], date_phase))
}

fn prepare_create(_cx: &Ctx, volume: &mut Object) {
    volume.set(&["status", "phase"], "Pending".into());
    volume.set(&["status", "lastPhaseTransitionTime"], now());
}

fn now() -> Value {
    meta::time::format_seconds(rt::time::now()).into()
}

/// A change of phase is dated, unless the client dates it.
fn date_phase(volume: &mut Object, old: &Object) {
    const TIME: [&str; 2] = ["status", "lastPhaseTransitionTime"];
    if volume.get_str(&["status", "phase"]) != old.get_str(&["status", "phase"])
        && (volume.get_str(&TIME).is_empty() || volume.get_str(&TIME) == old.get_str(&TIME))
    {
        volume.set(&TIME, now());
    }
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
