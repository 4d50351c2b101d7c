//! VolumeRestrictions: disks that only one pod may use, and claims for a single pod.

use api::Kind;
use api::k8s::core::v1::{PersistentVolumeClaim, Pod, Volume};
use informer::Informer;
use rt::HashSet;

use super::storage::{claim_not_found, is_about_claim_of, volumes};
use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status};
use crate::handle::Handle;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

pub(crate) struct VolumeRestrictions {
    claims: Informer<PersistentVolumeClaim>,
}

/// The pod's claims for a single pod, and how many uses of them there are.
#[derive(Clone)]
struct Single {
    claims: HashSet<String>,
    uses: usize,
}

impl Single {
    fn uses_of(&self, own: &Pod, other: &Pod) -> usize {
        if own.namespace() != other.namespace() {
            return 0;
        }
        claims_of(other).filter(|name| self.claims.contains(*name)).count()
    }
}

fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    volumes(pod).iter().filter_map(|v| Some(v.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

fn is_restricted(volume: &Volume) -> bool {
    volume.gce_persistent_disk.is_some()
        || volume.aws_elastic_block_store.is_some()
        || volume.rbd.is_some()
        || volume.iscsi.is_some()
}

/// Whether two volumes are the same disk, used in a way that excludes the other.
fn conflicts(one: &Volume, other: &Volume) -> bool {
    let both = |a: Option<bool>, b: Option<bool>| a == Some(true) && b == Some(true);
    if let (Some(a), Some(b)) = (&one.gce_persistent_disk, &other.gce_persistent_disk)
        && a.pd_name == b.pd_name
        && !both(a.read_only, b.read_only)
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&one.aws_elastic_block_store, &other.aws_elastic_block_store)
        && a.volume_id == b.volume_id
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&one.iscsi, &other.iscsi)
        && a.iqn == b.iqn
        && !both(a.read_only, b.read_only)
    {
        return true;
    }
    if let (Some(a), Some(b)) = (&one.rbd, &other.rbd) {
        let pool = |p: &Option<String>| p.clone().unwrap_or_else(|| "rbd".to_owned());
        return a.monitors.iter().any(|m| b.monitors.contains(m))
            && pool(&a.pool) == pool(&b.pool)
            && a.image == b.image
            && !both(a.read_only, b.read_only);
    }
    false
}

fn conflict_between(pod: &Pod, other: &Pod) -> bool {
    let mut restricted = volumes(pod).iter().filter(|v| is_restricted(v));
    restricted.any(|own| volumes(other).iter().any(|theirs| conflicts(own, theirs)))
}

impl VolumeRestrictions {
    pub(crate) fn new(handle: &Handle) -> Self {
        Self { claims: handle.factory.informer() }
    }

    fn single_claims(&self, pod: &Pod) -> Result<HashSet<String>, Status> {
        let mut single = HashSet::default();
        for name in claims_of(pod) {
            let Some(claim) = self.claims.cache().get(pod.namespace(), name) else {
                return Err(Status::unresolvable(claim_not_found(name)));
            };
            let modes = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
            if modes.iter().any(|mode| mode == "ReadWriteOncePod") {
                single.insert(name.to_owned());
            }
        }
        Ok(single)
    }
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn wakes_on(&self) -> u64 {
        kind::POD_DELETE | kind::NODE_ADD | kind::CLAIM_ADD
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match &event.subject {
            Subject::Pod { old: Some(gone), .. } => {
                gone.pod.namespace() == pod.pod.namespace()
                    && (conflict_between(&pod.pod, &gone.pod)
                        || claims_of(&pod.pod).any(|own| claims_of(&gone.pod).any(|theirs| own == theirs)))
            }
            _ => is_about_claim_of(pod, event),
        }
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, view: CycleView<'_>) -> PreFilter {
        let claims = match self.single_claims(&pod.pod) {
            Ok(claims) => claims,
            Err(status) => return PreFilter::Reject(status),
        };
        let mut single = Single { claims, uses: 0 };
        if !single.claims.is_empty() {
            let all = view.snapshot.nodes().iter().flat_map(|node| &node.pods);
            single.uses = all.map(|other| single.uses_of(&pod.pod, &other.pod)).sum();
        }
        if single.uses == 0 && !volumes(&pod.pod).iter().any(is_restricted) {
            return PreFilter::Skip;
        }
        state.put(view.plugin, single);
        PreFilter::All
    }

    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, added: &PodInfo, _: &NodeInfo, view: CycleView<'_>) {
        if let Some(single) = state.get_mut::<Single>(view.plugin) {
            single.uses += single.uses_of(&pod.pod, &added.pod);
        }
    }

    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, gone: &PodInfo, _: &NodeInfo, view: CycleView<'_>) {
        if let Some(single) = state.get_mut::<Single>(view.plugin) {
            single.uses = single.uses.saturating_sub(single.uses_of(&pod.pod, &gone.pod));
        }
    }

    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        let single = state.get::<Single>(view.plugin)?;
        if node.pods.iter().any(|other| conflict_between(&pod.pod, &other.pod)) {
            return Some(Status::unschedulable("node(s) had no available disk"));
        }
        (single.uses > 0).then(|| {
            Status::unschedulable(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
            )
        })
    }
}
