//! The claims that a pod names, and what may be done with them.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Pod;
use api::k8s::resource::v1::{
    AllocatedDeviceStatus, AllocationResult, DeviceRequestAllocationResult, ResourceClaim,
    ResourceClaimConsumerReference,
};
use informer::Informer;
use rt::time::Timestamp;

/// Most consumers of one claim, upstream's number.
const RESERVED_MAX: usize = 256;

/// The claims of a pod by name, and whether each must belong to it. A reference that no claim was made for on purpose is
/// left out.
///
/// # Errors
/// A claim was not made yet.
pub(super) fn names(pod: &Pod) -> Result<Vec<(String, bool)>, String> {
    let statuses = pod.status.as_ref().and_then(|s| s.resource_claim_statuses.as_deref()).unwrap_or_default();
    let mut names = Vec::new();
    for reference in pod.spec.iter().flat_map(|s| s.resource_claims.iter().flatten()) {
        if let Some(name) = &reference.resource_claim_name {
            names.push((name.clone(), false));
        } else if reference.resource_claim_template_name.is_some() {
            let made = statuses.iter().find(|s| s.name == reference.name);
            let made = made.ok_or_else(|| format!("pod \"{}\": ResourceClaim not created yet", pod.key()))?;
            names.extend(made.resource_claim_name.clone().map(|name| (name, true)));
        } else {
            let (pod, name) = (pod.key(), &reference.name);
            return Err(format!("pod \"{pod}\", spec.resourceClaim \"{name}\": none of the supported fields are set"));
        }
    }
    Ok(names)
}

/// The claims of a pod as they are known.
///
/// # Errors
/// One is not there, is being deleted, or belongs to another pod.
pub(super) fn of(pod: &Pod, all: &Informer<ResourceClaim>) -> Result<Vec<Arc<ResourceClaim>>, String> {
    let mut claims = Vec::new();
    for (name, owned) in names(pod)? {
        let claim = all.cache().get(pod.namespace(), &name);
        let claim = claim.ok_or_else(|| format!("resourceclaim.resource.k8s.io \"{name}\" not found"))?;
        if claim.is_deleting() {
            return Err(format!("resourceclaim \"{name}\" is being deleted"));
        }
        if owned && claim.controller_ref().is_none_or(|owner| owner.uid != pod.uid()) {
            let (claim, pod) = (claim.key(), pod.key());
            return Err(format!("ResourceClaim {claim} was not created for Pod {pod} (Pod is not owner)"));
        }
        claims.push(claim);
    }
    Ok(claims)
}

/// What is allocated to a claim.
pub(super) fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

/// The devices of an allocation.
pub(super) fn devices(allocation: &AllocationResult) -> &[DeviceRequestAllocationResult] {
    allocation.devices.as_ref().and_then(|d| d.results.as_deref()).unwrap_or_default()
}

/// Who uses a claim.
pub(super) fn consumers(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    claim.status.as_ref().and_then(|s| s.reserved_for.as_deref()).unwrap_or_default()
}

/// Whether the claim is kept for the pod.
pub(super) fn is_reserved_for(claim: &ResourceClaim, uid: &str) -> bool {
    consumers(claim).iter().any(|c| c.uid == uid)
}

/// Whether one more pod may use the claim.
pub(super) fn has_room(claim: &ResourceClaim) -> bool {
    consumers(claim).len() < RESERVED_MAX
}

/// Whether a claim's devices are prepared, as far as their conditions say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    Waiting,
    /// A condition says that it will not come about.
    Failed(String),
}

/// Reads the binding conditions of a claim's devices.
pub(super) fn readiness(claim: &ResourceClaim) -> Readiness {
    let Some(allocation) = allocation(claim) else { return Readiness::Waiting };
    let said = claim.status.as_ref().and_then(|s| s.devices.as_deref()).unwrap_or_default();
    for device in devices(allocation) {
        let wanted = device.binding_conditions.as_deref().unwrap_or_default();
        if wanted.is_empty() {
            continue;
        }
        let same = |s: &&AllocatedDeviceStatus| {
            s.device == device.device && s.driver == device.driver && s.pool == device.pool
        };
        let Some(status) = said.iter().find(same) else { return Readiness::Waiting };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let holds = |name: &String| conditions.iter().find(|c| c.type_ == *name && c.status == "True");
        if let Some(failed) = device.binding_failure_conditions.iter().flatten().find_map(holds) {
            let (claim, reason, message) = (claim.name(), &failed.reason, &failed.message);
            return Readiness::Failed(format!(
                "device binding failed: claim={claim}, reason={reason}, message=\"{message}\""
            ));
        }
        if !wanted.iter().all(|name| holds(name).is_some()) {
            return Readiness::Waiting;
        }
    }
    Readiness::Ready
}

/// Whether any device of the claim has binding conditions.
pub(super) fn has_conditions(claim: &ResourceClaim) -> bool {
    let of = |d: &DeviceRequestAllocationResult| d.binding_conditions.as_ref().is_some_and(|c| !c.is_empty());
    allocation(claim).is_some_and(|a| devices(a).iter().any(of))
}

/// Whether the claim's devices had long enough to become ready.
pub(super) fn is_overdue(claim: &ResourceClaim, limit: std::time::Duration, now: Timestamp) -> bool {
    if !has_conditions(claim) {
        return false;
    }
    let since = allocation(claim).and_then(|a| a.allocation_timestamp.as_ref());
    since.is_some_and(|at| {
        let passed = now.as_second() - at.0.as_second();
        passed > i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)
    })
}
