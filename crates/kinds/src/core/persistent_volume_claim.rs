//! PersistentVolumeClaim.

use meta::Object;
use registry::{Ctx, KindRow};
use serde_json::Value;

use crate::printer::{AGE, NAME, UNSET, age, text};
use crate::standard::Standard;

static CLAIM: Standard = Standard {
    rules: rules::core::persistent_volume_claim::RULES,
    status: true,
    columns: &[
        NAME,
        text("Status"),
        text("Volume"),
        text("Capacity"),
        text("Access Modes"),
        text("StorageClass"),
        text("VolumeAttributesClass"),
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
    KindRow::new("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", CLAIM.main())
        .short(&["pvc"])
        .status(CLAIM.status())
}

fn prepare_create(_cx: &Ctx, claim: &mut Object) {
    claim.set(&["status", "phase"], "Pending".into());
    normalize_sources(claim);
}

/// `dataSource` and `dataSourceRef` say the same where both can; sources in other namespaces are off.
fn normalize_sources(claim: &mut Object) {
    let part = |claim: &Object, source: &str, field: &str| claim.get_str(&["spec", source, field]).to_owned();
    let old_style = matches!(
        (part(claim, "dataSource", "kind").as_str(), part(claim, "dataSource", "apiGroup").as_str()),
        ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
    );
    if !old_style {
        claim.remove(&["spec", "dataSource"]);
    }
    if !part(claim, "dataSourceRef", "namespace").is_empty() {
        claim.remove(&["spec", "dataSourceRef"]);
    }
    for (from, to) in [("dataSource", "dataSourceRef"), ("dataSourceRef", "dataSource")] {
        let source = claim.get(&["spec", from]).filter(|s| s.is_object()).cloned();
        if let Some(source) = source
            && !claim.get(&["spec", to]).is_some_and(Value::is_object)
        {
            let fits = to == "dataSourceRef"
                || matches!(
                    (part(claim, from, "kind").as_str(), part(claim, from, "apiGroup").as_str()),
                    ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
                );
            if fits {
                claim.set(&["spec", to], source);
            }
        }
    }
}

fn cells(claim: &Object, now: i64) -> Vec<Value> {
    let phase = match claim.deletion_timestamp() {
        Some(_) => "Terminating",
        None => claim.get_str(&["status", "phase"]),
    };
    let volume = claim.get_str(&["spec", "volumeName"]);
    let (capacity, modes) = if volume.is_empty() {
        ("", String::new())
    } else {
        let size = claim.get_str(&["status", "capacity", "storage"]);
        (if size.is_empty() { "0" } else { size }, access_modes(claim.get(&["status", "accessModes"])))
    };
    vec![
        claim.name().into(),
        phase.into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        storage_class(claim).into(),
        or_unset(claim, &["spec", "volumeAttributesClassName"]),
        age(claim, now).into(),
        or_unset(claim, &["spec", "volumeMode"]),
    ]
}

/// Access modes in their short form: `RWO,RWX`.
pub fn access_modes(modes: Option<&Value>) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| modes.and_then(Value::as_array).is_some_and(|list| list.iter().any(|m| m == mode));
    SHORT.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The storage class: the old annotation wins over the field.
pub fn storage_class(object: &Object) -> &str {
    object
        .annotation("volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| object.get_str(&["spec", "storageClassName"]))
}

/// The string at a path, or `<unset>` when absent.
pub fn or_unset(object: &Object, path: &[&str]) -> Value {
    object.get(path).filter(|v| v.is_string()).cloned().unwrap_or(UNSET.into())
}
