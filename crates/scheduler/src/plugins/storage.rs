//! What the plugins for volumes share.

use api::Kind;
use api::k8s::core::v1::{Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use component_helpers::node_affinity::terms;

use crate::events::{ClusterEvent, Subject};
use crate::pod_info::PodInfo;

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// The volumes of a pod.
pub(super) fn volumes(pod: &Pod) -> &[Volume] {
    pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default()
}

/// The claim of a volume and whether it is made for the pod; none when the volume has no claim.
pub(super) fn claim_name(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), false));
    }
    volume.ephemeral.as_ref().map(|_| (format!("{}-{}", pod.name(), volume.name), true))
}

/// The claims of a pod by name, and whether each is made for it.
pub(super) fn claim_names(pod: &Pod) -> impl Iterator<Item = (String, bool)> {
    volumes(pod).iter().filter_map(|volume| claim_name(pod, volume))
}

/// Whether an event about a claim is about one of the pod's. Others are none of our business.
pub(super) fn is_about_claim_of(pod: &PodInfo, event: &ClusterEvent) -> bool {
    let Subject::Claim(claim) = &event.subject else { return true };
    claim.namespace() == pod.pod.namespace() && claim_names(&pod.pod).any(|(name, _)| name == claim.name())
}

/// What upstream says of a claim that is not there.
pub(super) fn claim_not_found(name: &str) -> String {
    format!("persistentvolumeclaim \"{name}\" not found")
}

/// Whether a claim that should be made for a pod was.
pub(super) fn is_for_pod(pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let owned = claim.controller_ref().is_some_and(|owner| owner.uid == pod.uid());
    let (pod, claim) = (pod.key(), claim.key());
    if owned { Ok(()) } else { Err(format!("PVC {claim} was not created for pod {pod} (pod is not owner)")) }
}

/// The claim's class; the old annotation wins.
pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> String {
    let field = claim.spec.as_ref().and_then(|s| s.storage_class_name.clone());
    claim.annotation(OLD_CLASS).map(str::to_owned).or(field).unwrap_or_default()
}

/// The volume's class; the old annotation wins.
pub(super) fn class_of_volume(volume: &PersistentVolume) -> String {
    let field = volume.spec.as_ref().and_then(|s| s.storage_class_name.clone());
    volume.annotation(OLD_CLASS).map(str::to_owned).or(field).unwrap_or_default()
}

/// The volume that a claim names, empty when it names none.
pub(super) fn volume_of(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
}

/// Whether the binding of a claim is done, from both sides.
pub(super) fn is_fully_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_of(claim).is_empty() && claim.annotation(BIND_COMPLETED).is_some()
}

/// The claim that a volume is for.
pub(super) fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether a volume is for this claim.
pub(super) fn is_for_claim(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|reference| {
        let uid = reference.uid.as_deref().unwrap_or_default();
        reference.name.as_deref() == Some(claim.name())
            && reference.namespace.as_deref() == Some(claim.namespace())
            && (uid.is_empty() || uid == claim.uid())
    })
}

/// Whether a volume can be had on a node.
pub(super) fn reaches(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|a| a.required.as_ref()) else { return true };
    terms(required).iter().any(|term| term.matches(node))
}
