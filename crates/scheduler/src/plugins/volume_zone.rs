//! VolumeZone: a volume that is in a zone or region can be had only there.

use api::Kind;
use api::k8s::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::storage::v1::StorageClass;
use informer::Informer;

use super::storage::{claim_not_found, class_of_claim, is_about_claim_of, volume_of, volumes};
use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status};
use crate::handle::Handle;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// The labels, and the newer names of the old ones.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];

pub(crate) struct VolumeZone {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
}

/// A demand: the label, its newer name, and the values that will do.
#[derive(Clone)]
struct Demand(&'static str, &'static str, Vec<String>);

impl VolumeZone {
    pub(crate) fn new(handle: &Handle) -> Self {
        let factory = &handle.factory;
        Self { claims: factory.informer(), volumes: factory.informer(), classes: factory.informer() }
    }

    fn demands(&self, pod: &Pod) -> Result<Vec<Demand>, Status> {
        let mut all = Vec::new();
        for source in volumes(pod).iter().filter_map(|v| v.persistent_volume_claim.as_ref()) {
            let name = &source.claim_name;
            let Some(claim) = self.claims.cache().get(pod.namespace(), name) else {
                return Err(Status::unresolvable(claim_not_found(name)));
            };
            let volume_name = volume_of(&claim);
            if volume_name.is_empty() {
                self.check_unbound(&claim)?;
                continue;
            }
            let Some(volume) = self.volumes.cache().get_key(volume_name) else {
                return Err(Status::unresolvable(format!("persistentvolume \"{volume_name}\" not found")));
            };
            for (label, newer) in LABELS {
                if let Some(value) = volume.label(label) {
                    all.push(Demand(label, newer, value.split("__").map(|v| v.trim().to_owned()).collect()));
                }
            }
        }
        Ok(all)
    }

    /// A claim without a volume is no matter when it waits for its first consumer.
    fn check_unbound(&self, claim: &PersistentVolumeClaim) -> Result<(), Status> {
        let class = class_of_claim(claim);
        if class.is_empty() {
            return Err(Status::unresolvable("PersistentVolumeClaim had no pv name and storageClass name"));
        }
        let Some(found) = self.classes.cache().get_key(&class) else {
            return Err(Status::unresolvable(format!("storageclass.storage.k8s.io \"{class}\" not found")));
        };
        match found.volume_binding_mode.as_deref() {
            None => Err(Status::unresolvable(format!("VolumeBindingMode not set for StorageClass \"{class}\""))),
            Some("WaitForFirstConsumer") => Ok(()),
            Some(_) => Err(Status::unresolvable("PersistentVolume had no name")),
        }
    }
}

impl Plugin for VolumeZone {
    fn name(&self) -> &'static str {
        "VolumeZone"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn wakes_on(&self) -> u64 {
        let storage = kind::CLASS | kind::CLAIM_ADD | kind::CLAIM_UPDATE | kind::VOLUME;
        storage | kind::NODE_ADD | kind::NODE_LABEL
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match &event.subject {
            Subject::Claim(_) => is_about_claim_of(pod, event),
            Subject::Class { old, .. } => old.is_none(),
            _ => true,
        }
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, view: CycleView<'_>) -> PreFilter {
        match self.demands(&pod.pod) {
            Err(status) => PreFilter::Reject(status),
            Ok(demands) if demands.is_empty() => PreFilter::Skip,
            Ok(demands) => {
                state.put(view.plugin, demands);
                PreFilter::All
            }
        }
    }

    fn filter(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        let demands = state.get::<Vec<Demand>>(view.plugin)?;
        let label = |name: &str| node.node.label(name);
        if !LABELS.iter().any(|(name, _)| label(name).is_some()) {
            return None;
        }
        let met = |Demand(name, newer, values): &Demand| {
            label(name).or_else(|| label(newer)).is_some_and(|value| values.iter().any(|v| v == value))
        };
        (!demands.iter().all(met)).then(|| Status::unresolvable("node(s) had no available volume zone"))
    }
}
