//! Which volume suits a claim.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{claim_key, claim_ref, phase};
use crate::owner::selector_of;

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The claim's class; the old annotation wins.
pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<String> {
    let field = claim.spec.as_ref().and_then(|s| s.storage_class_name.clone());
    claim.annotation(OLD_CLASS).map(str::to_owned).or(field)
}

fn class_of_volume(volume: &PersistentVolume) -> String {
    let field = volume.spec.as_ref().and_then(|s| s.storage_class_name.clone());
    volume.annotation(OLD_CLASS).map(str::to_owned).or(field).unwrap_or_default()
}

fn capacity(volume: &PersistentVolume) -> i64 {
    let list = volume.spec.as_ref().and_then(|s| s.capacity.as_ref());
    list.and_then(|c| c.get("storage")).map_or(0, |q| api::quantity(q).value())
}

fn wanted(claim: &PersistentVolumeClaim) -> i64 {
    let list = claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
    list.and_then(|r| r.get("storage")).map_or(0, |q| api::quantity(q).value())
}

/// Whether the volume names this claim.
pub(super) fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|reference| {
        let uid = reference.uid.as_deref().unwrap_or_default();
        claim_key(reference) == claim.key() && (uid.is_empty() || uid == claim.uid())
    })
}

/// Whether the volume has what the claim asks for.
///
/// # Errors
/// What it lacks, in upstream's words.
pub(super) fn satisfies(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    if volume.is_deleting() {
        return Err(format!("the volume is marked for deletion {:?}", volume.name()));
    }
    if capacity(volume) < wanted(claim) {
        return Err("requested PV is too small".to_owned());
    }
    if class_of_volume(volume) != class_of_claim(claim).unwrap_or_default() {
        return Err("storageClassName does not match".to_owned());
    }
    let (Some(has), Some(asks)) = (&volume.spec, &claim.spec) else { return Err("it has no spec".to_owned()) };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    if text(&has.volume_attributes_class_name) != text(&asks.volume_attributes_class_name) {
        return Err("volumeAttributesClassName does not match".to_owned());
    }
    let mode = |field: &Option<String>| field.clone().unwrap_or_else(|| "Filesystem".to_owned());
    if mode(&has.volume_mode) != mode(&asks.volume_mode) {
        return Err("incompatible volumeMode".to_owned());
    }
    let modes = has.access_modes.as_deref().unwrap_or_default();
    if !asks.access_modes.iter().flatten().all(|mode| modes.contains(mode)) {
        return Err("incompatible accessMode".to_owned());
    }
    Ok(())
}

/// The volume to bind: one that names the claim, else the smallest that suits. When the scheduler is to choose, only the
/// former.
pub(super) fn best(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    scheduler_chooses: bool,
) -> Option<Arc<PersistentVolume>> {
    let named = volumes.iter().find(|v| is_bound_to(v, claim) && satisfies(v, claim).is_ok());
    if named.is_some() || scheduler_chooses {
        return named.cloned();
    }
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref()).map(selector_of);
    let suits = |volume: &&Arc<PersistentVolume>| {
        claim_ref(volume).is_none()
            && phase(volume) == "Available"
            && selector.as_ref().is_none_or(|s| s.matches_map(volume.labels()))
            && satisfies(volume, claim).is_ok()
    };
    volumes.iter().filter(suits).min_by_key(|v| (capacity(v), v.name().to_owned())).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_smallest_that_suits() {
        let volume = |name: &str, size: &str, class: &str| {
            let tree = json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": class},
                "status": {"phase": "Available"},
            });
            Arc::new(api::from_value::<PersistentVolume>(tree).unwrap())
        };
        let claim: PersistentVolumeClaim = api::from_value(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "n"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "a",
                "resources": {"requests": {"storage": "2Gi"}},
            },
        }))
        .unwrap();
        let volumes = [
            volume("small", "1Gi", "a"),
            volume("large", "9Gi", "a"),
            volume("right", "3Gi", "a"),
            volume("other", "2Gi", "b"),
        ];
        assert_eq!(best(&claim, &volumes, false).unwrap().name(), "right");
        assert!(best(&claim, &volumes, true).is_none());
    }
}
