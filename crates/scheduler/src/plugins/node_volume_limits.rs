//! NodeVolumeLimits: a node attaches only so many volumes of a CSI driver.

use api::Kind;
use api::k8s::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::storage::v1::{CSINode, StorageClass, VolumeAttachment};
use informer::Informer;
use rt::HashMap;

use super::storage::{claim_names, class_of_claim, is_about_claim_of, is_for_pod, volume_of};
use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status};
use crate::handle::Handle;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

const BY_NODE: &str = "attachment node";

pub(crate) struct NodeVolumeLimits {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    csi_nodes: Informer<CSINode>,
    attachments: Informer<VolumeAttachment>,
}

/// Drivers by volume: the driver and its handle of the volume.
type Attached = HashMap<(String, String), ()>;

fn limits(node: &CSINode) -> HashMap<String, i64> {
    let limit =
        |d: &api::k8s::storage::v1::CSINodeDriver| Some((d.name.clone(), i64::from(d.allocatable.as_ref()?.count?)));
    node.spec.drivers.iter().filter_map(limit).collect()
}

impl NodeVolumeLimits {
    pub(crate) fn new(handle: &Handle) -> Self {
        let factory = &handle.factory;
        let attachments = factory.informer::<VolumeAttachment>();
        attachments.add_index(BY_NODE, |a| vec![a.spec.node_name.clone()]);
        Self {
            claims: factory.informer(),
            volumes: factory.informer(),
            classes: factory.informer(),
            csi_nodes: factory.informer(),
            attachments,
        }
    }

    /// The CSI volumes of a pod. Of a pod that is not placed yet all claims must be there.
    fn volumes_of(&self, pod: &Pod, is_new: bool, into: &mut Attached) -> Result<(), Status> {
        for (name, ephemeral) in claim_names(pod) {
            let Some(claim) = self.claims.cache().get(pod.namespace(), &name) else {
                if is_new {
                    let key = format!("{}/{name}", pod.namespace());
                    let text = format!("looking up PVC {key}: persistentvolumeclaim \"{name}\" not found");
                    return Err(Status::unresolvable(text));
                }
                continue;
            };
            if ephemeral {
                is_for_pod(pod, &claim).map_err(Status::error)?;
            }
            if let Some(volume) = self.csi_volume(&claim) {
                into.insert(volume, ());
            }
        }
        Ok(())
    }

    fn csi_volume(&self, claim: &PersistentVolumeClaim) -> Option<(String, String)> {
        if let Some(volume) = self.volumes.cache().get_key(volume_of(claim)) {
            let csi = volume.spec.as_ref()?.csi.as_ref()?;
            return Some((csi.driver.clone(), csi.volume_handle.clone()));
        }
        let class = self.classes.cache().get_key(&class_of_claim(claim))?;
        // Not made yet: a handle that no driver gives.
        Some((class.provisioner.clone(), format!("\0{}", claim.key())))
    }

    /// What is attached to a node by the word of the attacher.
    fn attached(&self, node: &str) -> Attached {
        let all = self.attachments.cache().by_index(BY_NODE, node);
        let volume = |a: &std::sync::Arc<VolumeAttachment>| {
            let name = a.spec.source.persistent_volume_name.as_ref()?;
            let volume = self.volumes.cache().get_key(name)?;
            Some((a.spec.attacher.clone(), volume.spec.as_ref()?.csi.as_ref()?.volume_handle.clone()))
        };
        all.iter().filter_map(volume).map(|v| (v, ())).collect()
    }

    fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Status> {
        let mut new = Attached::default();
        self.volumes_of(&pod.pod, true, &mut new)?;
        let limits = match self.csi_nodes.cache().get_key(&node.name) {
            Some(csi_node) if !new.is_empty() => limits(&csi_node),
            _ => return Ok(()),
        };
        if limits.is_empty() {
            return Ok(());
        }
        let mut there = self.attached(&node.name);
        for other in &node.pods {
            self.volumes_of(&other.pod, false, &mut there)?;
        }
        new.retain(|volume, ()| !there.contains_key(volume));
        for (driver, limit) in limits {
            let count = |set: &Attached| set.keys().filter(|(d, _)| *d == driver).count();
            let (more, have) = (count(&new), count(&there));
            if more > 0 && i64::try_from(have + more).unwrap_or(i64::MAX) > limit {
                return Err(Status::unschedulable("node(s) exceed max volume count"));
            }
        }
        Ok(())
    }
}

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn wakes_on(&self) -> u64 {
        kind::CSI_NODE | kind::POD_DELETE | kind::CLAIM_ADD | kind::ATTACHMENT_DELETE
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match &event.subject {
            Subject::Pod { old: Some(gone), .. } => claim_names(&gone.pod).next().is_some(),
            Subject::CsiNode { old: Some(old), new } => {
                let before = limits(old);
                limits(new).iter().any(|(driver, limit)| *limit > before.get(driver).copied().unwrap_or(0))
            }
            _ => is_about_claim_of(pod, event),
        }
    }

    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: CycleView<'_>) -> PreFilter {
        if claim_names(&pod.pod).next().is_some() { PreFilter::All } else { PreFilter::Skip }
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: CycleView<'_>) -> Option<Status> {
        self.check(pod, node).err()
    }
}
