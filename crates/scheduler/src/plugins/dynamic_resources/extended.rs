//! Devices for extended resources in containers (DRAExtendedResource).
//!
//! A node that has none of a resource of its own may give it by devices, when a class stands for it. What a pod needs of
//! such devices depends on the node, so the claim is made in memory, node by node; PreBind makes the object, owned by the
//! pod, and tells the pod in its status which of the claim's requests are for which container. One that is left from an
//! attempt that failed is deleted before the next one.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Container, ContainerExtendedResourceRequest, Pod};
use api::k8s::resource::v1::{DeviceClaim, DeviceRequest, ExactDeviceRequest, ResourceClaim, ResourceClaimSpec};
use api::metav1::{ObjectMeta, OwnerReference};
use component_helpers::owner::reference;
use informer::Informer;

use crate::device_classes::{DeviceClasses, may_be_devices};
use crate::framework::Status;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";
/// The name of the claim while it is only in memory; no object can have it.
const IN_MEMORY: &str = "<extended-resources>";

/// The claim for a pod's extended resources.
#[derive(Clone)]
pub(super) struct Special {
    pub(super) claim: Arc<ResourceClaim>,
    /// It is an object, left from an earlier attempt.
    pub(super) stale: bool,
}

/// The claim as one node would have it.
#[derive(Debug, Clone)]
pub(super) struct OnNode {
    pub(super) claim: Arc<ResourceClaim>,
    /// Which request is for which container.
    pub(super) mappings: Vec<ContainerExtendedResourceRequest>,
}

/// Whether the claim was made for extended resources of the pod.
pub(super) fn is_made_for(claim: &ResourceClaim, pod: &Pod) -> bool {
    claim.annotation(ANNOTATION).is_some_and(|value| value == "true")
        && claim.controller_ref().is_some_and(|owner| owner.uid == pod.uid() && owner.name == pod.name())
}

/// The claim for a pod's extended resources, when it asks for some that devices stand behind.
pub(super) fn special(pod: &PodInfo, classes: &DeviceClasses, claims: &Informer<ResourceClaim>) -> Option<Special> {
    if !classes.asked_by(pod) {
        return None;
    }
    let pod = &*pod.pod;
    let mut known = claims.cache().in_namespace(pod.namespace()).into_iter();
    match known.find(|claim| is_made_for(claim, pod)) {
        Some(claim) => Some(Special { claim, stale: true }),
        None => Some(Special { claim: Arc::new(template(pod)), stale: false }),
    }
}

fn template(pod: &Pod) -> ResourceClaim {
    let owner = OwnerReference { controller: Some(true), ..reference(pod) };
    let metadata = ObjectMeta {
        name: Some(IN_MEMORY.to_owned()),
        generate_name: Some(format!("{}-extended-resources-", pod.name())),
        namespace: Some(pod.namespace().to_owned()),
        // So that the ledger can tell it from others until the object has one.
        uid: Some(rt::rand::uid()),
        annotations: Some([(ANNOTATION.to_owned(), "true".to_owned())].into()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    ResourceClaim { metadata, ..ResourceClaim::default() }
}

/// What a pod needs of a node's devices: none when the node has the resources itself.
///
/// # Errors
/// The node has a resource neither way.
pub(super) fn on_node(
    special: &Special,
    pod: &PodInfo,
    node: &NodeInfo,
    classes: &DeviceClasses,
) -> Result<Option<OnNode>, Status> {
    if special.stale {
        return Err(Status::unresolvable("cannot schedule extended resource claim"));
    }
    let mut by_devices = Vec::new();
    for (name, _) in pod.requests.scalars.iter().filter(|(name, amount)| *amount != 0 && may_be_devices(name)) {
        if node.allocatable.scalar(name) != 0 {
            continue;
        }
        if let Some(class) = classes.of(name) {
            by_devices.push((&**name, class));
        } else if !node.allocatable.scalars.iter().any(|(known, _)| known == name) {
            return Err(Status::unresolvable("cannot fit resource"));
        }
    }
    if by_devices.is_empty() {
        return Ok(None);
    }
    let mut made = Made::default();
    for (resource, class) in by_devices {
        made.add(&pod.pod, resource, class.name());
    }
    made.requests.sort_by(|a, b| a.name.cmp(&b.name));
    let mut claim = (*special.claim).clone();
    claim.spec =
        ResourceClaimSpec { devices: Some(DeviceClaim { requests: Some(made.requests), ..DeviceClaim::default() }) };
    Ok(Some(OnNode { claim: Arc::new(claim), mappings: made.mappings }))
}

/// A request for devices of one class.
#[derive(Clone)]
struct Ask {
    name: String,
    count: i64,
}

/// A container and its place among all, init containers first.
struct Place<'a> {
    at: usize,
    container: &'a Container,
    /// An init container that has ended when the others run: what it used can be used again.
    passes: bool,
}

fn places(pod: &Pod) -> Vec<Place<'_>> {
    let spec = pod.spec.iter();
    let first = spec.clone().flat_map(|s| s.init_containers.iter().flatten()).map(|container| {
        let passes = container.restart_policy.as_deref() != Some("Always");
        (container, passes)
    });
    let rest = spec.flat_map(|s| &s.containers).map(|container| (container, false));
    first.chain(rest).enumerate().map(|(at, (container, passes))| Place { at, container, passes }).collect()
}

#[derive(Default)]
struct Made {
    requests: Vec<DeviceRequest>,
    mappings: Vec<ContainerExtendedResourceRequest>,
}

impl Place<'_> {
    /// What the container asks for beside the requests of others that it may use; and which requests are its own.
    fn ask(&self, resource: &str, usable: &[Option<Ask>]) -> (Option<Ask>, Vec<String>) {
        let requests = self.container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let place = requests.into_iter().flatten().position(|(name, _)| name == resource);
        let amount = requests.and_then(|all| all.get(resource)).and_then(|q| q.0.parse().ok());
        let (Some(place), Some(wanted)) = (place, amount.map(|q: meta::quantity::Quantity| q.value())) else {
            return (None, Vec::new());
        };
        let (mut names, mut have) = (Vec::new(), 0);
        for other in usable.iter().flatten() {
            if have >= wanted {
                break;
            }
            have += other.count;
            names.push(other.name.clone());
        }
        if have >= wanted {
            return (None, names);
        }
        let name = format!("container-{}-request-{place}", self.at);
        names.push(name.clone());
        (Some(Ask { name, count: wanted - have }), names)
    }

    fn mappings(
        &self,
        resource: &str,
        names: Vec<String>,
    ) -> impl Iterator<Item = ContainerExtendedResourceRequest> + use<> {
        let (container_name, resource_name) = (self.container.name.clone(), resource.to_owned());
        names.into_iter().map(move |request_name| ContainerExtendedResourceRequest {
            container_name: container_name.clone(),
            request_name,
            resource_name: resource_name.clone(),
        })
    }
}

impl Made {
    /// Requests for one resource: one for each container that stays, and for the init containers that pass one that is
    /// large enough for each of them, beside what later containers have not begun to use yet.
    fn add(&mut self, pod: &Pod, resource: &str, class: &str) {
        let places = places(pod);
        let mut own: Vec<Option<Ask>> = vec![None; places.len()];
        for place in places.iter().filter(|place| !place.passes) {
            let (ask, names) = place.ask(resource, &[]);
            own[place.at] = ask;
            self.mappings.extend(place.mappings(resource, names));
        }
        let (mut largest, mut passing, mut asked) = (None::<Ask>, Vec::new(), Vec::new());
        for place in places.iter().filter(|place| place.passes) {
            let (ask, names) = place.ask(resource, &own[place.at..]);
            passing.extend(place.mappings(resource, names));
            let Some(ask) = ask else { continue };
            asked.push(ask.name.clone());
            if largest.as_ref().is_none_or(|known| known.count < ask.count) {
                largest = Some(ask);
            }
        }
        if let Some(largest) = &largest {
            for mapping in passing.iter_mut().filter(|mapping| asked.contains(&mapping.request_name)) {
                mapping.request_name.clone_from(&largest.name);
            }
        }
        self.mappings.extend(passing);
        self.requests.extend(largest.into_iter().chain(own.into_iter().flatten()).map(|ask| DeviceRequest {
            name: ask.name,
            exactly: Some(ExactDeviceRequest {
                device_class_name: class.to_owned(),
                allocation_mode: Some("ExactCount".to_owned()),
                count: Some(ask.count),
                ..ExactDeviceRequest::default()
            }),
            first_available: None,
        }));
    }
}

#[cfg(test)]
mod tests;
