//! Which volume suits a claim on a node.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use api::k8s::storage::v1::{CSIStorageCapacity, StorageClass};

use super::super::storage::{claim_ref, class_of_claim, class_of_volume, is_for_claim, reaches};
use crate::labels::selector_of;

const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Bytes that a claim asks for.
pub(super) fn storage_request(claim: &PersistentVolumeClaim) -> Option<i64> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Some(api::quantity(requests.get("storage")?).value())
}

fn size(volume: &PersistentVolume) -> i64 {
    let capacity = volume.spec.as_ref().and_then(|s| s.capacity.as_ref());
    capacity.and_then(|c| c.get("storage")).map_or(0, |q| api::quantity(q).value())
}

fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(asks)) = (&volume.spec, &claim.spec) else { return false };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let mode = |field: &Option<String>| field.clone().unwrap_or_else(|| "Filesystem".to_owned());
    size(volume) >= storage_request(claim).unwrap_or(0)
        && text(&has.volume_attributes_class_name) == text(&asks.volume_attributes_class_name)
        && mode(&has.volume_mode) == mode(&asks.volume_mode)
        && !volume.is_deleting()
}

/// The smallest volume that suits; one that is for the claim goes before all, and excludes all others.
pub(super) fn find<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    node: &Node,
    chosen: &[&str],
) -> Option<&'a Arc<PersistentVolume>> {
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref()).map(|s| selector_of(Some(s)));
    let class = class_of_claim(claim);
    let wanted = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    let mut best: Option<&Arc<PersistentVolume>> = None;
    for volume in volumes.iter().filter(|v| !chosen.contains(&v.name())) {
        let its = is_for_claim(volume, claim);
        if (claim_ref(volume).is_some() && !its) || !suits(volume, claim) {
            continue;
        }
        let reached = reaches(volume, node);
        if its {
            return reached.then_some(volume);
        }
        let available = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Available");
        let modes = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
        let fits = available
            && reached
            && selector.as_ref().is_none_or(|s| s.matches_map(volume.labels()))
            && class_of_volume(volume) == class
            && wanted.iter().all(|mode| modes.contains(mode));
        if fits && best.is_none_or(|b| size(volume) < size(b)) {
            best = Some(volume);
        }
    }
    best
}

/// The volume with its claim written in.
pub(super) fn given_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> PersistentVolume {
    let mut given = volume.clone();
    if !is_for_claim(volume, claim) {
        let annotations = given.metadata.annotations.get_or_insert_default();
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    let spec = given.spec.get_or_insert_default();
    if spec.claim_ref.as_ref().and_then(|r| r.uid.as_deref()) != Some(claim.uid()) {
        spec.claim_ref = Some(informer::reference(claim));
    }
    given
}

/// Whether a class makes volumes for a node.
pub(super) fn topology_allows(class: &StorageClass, node: &Node) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty()
        || terms.iter().any(|term| {
            let mut all = term.match_label_expressions.iter().flatten();
            all.all(|e| node.label(&e.key).is_some_and(|value| e.values.iter().any(|v| v == value)))
        })
}

/// The largest volume that there is room for.
pub(super) fn find_limit(capacity: &CSIStorageCapacity) -> Option<i64> {
    capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref()).map(|q| api::quantity(q).value())
}

/// Whether there is room for a volume of a class, and the node reaches it.
pub(super) fn capacity_suffices(capacity: &CSIStorageCapacity, class: &str, size: i64, node: &Node) -> bool {
    capacity.storage_class_name == class
        && find_limit(capacity).is_some_and(|limit| limit >= size)
        && capacity.node_topology.as_ref().is_some_and(|t| selector_of(Some(t)).matches_map(node.labels()))
}

#[cfg(test)]
mod tests;
