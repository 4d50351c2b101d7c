//! VolumeBinding: the pod's volumes can be had on the node; those that wait for their first consumer are bound or asked
//! for when the node is known.
//!
//! What is decided is assumed in memory at once, so that the next pod sees it, and written in PreBind: a volume is given
//! its claim, a claim its `volume.kubernetes.io/selected-node`. The controllers do the rest; PreBind waits for it.

mod assumed;
mod bind;
mod matching;

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::storage::v1::{CSIDriver, CSIStorageCapacity, StorageClass};
use async_trait::async_trait;
use informer::Informer;
use rt::sync::watch;

use self::assumed::Assumed;
use self::matching::{capacity_suffices, find, find_limit, storage_request, topology_allows};
use super::storage::{
    claim_names, claim_not_found, class_of_claim, class_of_volume, is_about_claim_of, is_for_pod, is_fully_bound,
    reaches, volume_of,
};
use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{Code, CycleState, CycleView, Plugin, Points, PreFilter, Status};
use crate::handle::Handle;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const NO_SPACE: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

pub(crate) struct VolumeBinding {
    claims: Assumed<PersistentVolumeClaim>,
    volumes: Assumed<PersistentVolume>,
    classes: Informer<StorageClass>,
    drivers: Informer<CSIDriver>,
    capacities: Informer<CSIStorageCapacity>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    client: client::Client,
    /// Changes with each change of a claim or volume.
    changes: watch::Sender<()>,
    timeout: Duration,
}

/// The pod's claims.
#[derive(Clone, Default)]
struct Claims {
    bound: Vec<Arc<PersistentVolumeClaim>>,
    /// Not bound; they wait for their first consumer.
    delayed: Vec<Arc<PersistentVolumeClaim>>,
    /// The volumes of the classes of the delayed ones.
    candidates: Vec<Arc<PersistentVolume>>,
}

/// What is to be done for the pod on a node.
#[derive(Clone, Default)]
struct Plan {
    bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    provisions: Vec<Arc<PersistentVolumeClaim>>,
}

/// What PreFilter found and Reserve decided.
#[derive(Clone, Default)]
struct Kept {
    claims: Claims,
    plan: Plan,
}

impl VolumeBinding {
    pub(crate) fn new(timeout: Duration, handle: &Handle) -> Self {
        let factory = &handle.factory;
        let changes = watch::Sender::new(());
        let (claims, volumes) = (factory.informer::<PersistentVolumeClaim>(), factory.informer::<PersistentVolume>());
        let changed = changes.clone();
        claims.add_handler(move |_| changed.send_replace(()));
        let changed = changes.clone();
        volumes.add_handler(move |_| changed.send_replace(()));
        Self {
            claims: Assumed::new(claims),
            volumes: Assumed::new(volumes),
            classes: factory.informer(),
            drivers: factory.informer(),
            capacities: factory.informer(),
            pods: handle.pods.clone(),
            nodes: factory.informer(),
            client: handle.client.clone(),
            changes,
            timeout,
        }
    }

    /// The pod's claims, sorted out.
    fn sort_out(&self, pod: &Pod) -> Result<Claims, Status> {
        let mut all = Claims::default();
        let mut immediate = false;
        for (name, ephemeral) in claim_names(pod) {
            let Some(claim) = self.claims.get(&format!("{}/{name}", pod.namespace())) else {
                return Err(Status::unresolvable(match ephemeral {
                    true => format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                    ),
                    false => claim_not_found(&name),
                }));
            };
            if claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost") {
                let volume = volume_of(&claim);
                let text =
                    format!("persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\"");
                return Err(Status::unresolvable(text));
            }
            if claim.is_deleting() {
                return Err(Status::unresolvable(format!("persistentvolumeclaim \"{name}\" is being deleted")));
            }
            if ephemeral {
                is_for_pod(pod, &claim).map_err(Status::unresolvable)?;
            }
            if is_fully_bound(&claim) {
                all.bound.push(claim);
            } else if volume_of(&claim).is_empty() && self.is_delayed(&claim)? {
                all.delayed.push(claim);
            } else {
                immediate = true;
            }
        }
        if immediate {
            return Err(Status::unresolvable("pod has unbound immediate PersistentVolumeClaims"));
        }
        all.delayed.sort_by_key(|claim| storage_request(claim));
        if !all.delayed.is_empty() {
            let classes: Vec<String> = all.delayed.iter().map(|c| class_of_claim(c)).collect();
            all.candidates = self.volumes.list();
            all.candidates.retain(|v| classes.contains(&class_of_volume(v)));
        }
        Ok(all)
    }

    fn is_delayed(&self, claim: &PersistentVolumeClaim) -> Result<bool, Status> {
        let name = class_of_claim(claim);
        if name.is_empty() {
            return Ok(false);
        }
        let Some(class) = self.classes.cache().get_key(&name) else { return Ok(false) };
        match class.volume_binding_mode.as_deref() {
            None => Err(Status::error(format!("VolumeBindingMode not set for StorageClass \"{name}\""))),
            Some(mode) => Ok(mode == "WaitForFirstConsumer"),
        }
    }

    /// What is to be done so that the pod has its volumes on the node.
    fn plan(&self, claims: &Claims, node: &Node) -> Result<Plan, Status> {
        for claim in &claims.bound {
            match self.volumes.get(volume_of(claim)) {
                None => return Err(Status::unresolvable(NO_VOLUME)),
                Some(volume) if !reaches(&volume, node) => return Err(Status::unresolvable(NODE_CONFLICT)),
                Some(_) => {}
            }
        }
        let mut plan = Plan::default();
        let mut chosen: Vec<&str> = Vec::new();
        for claim in &claims.delayed {
            if let Some(selected) = claim.annotation(SELECTED_NODE) {
                if selected != node.name() {
                    return Err(Status::unresolvable(BIND_CONFLICT));
                }
            } else if let Some(volume) = find(claim, &claims.candidates, node, &chosen) {
                chosen.push(volume.name());
                plan.bindings.push((volume.clone(), claim.clone()));
                continue;
            }
            self.check_provision(claim, node)?;
            plan.provisions.push(claim.clone());
        }
        Ok(plan)
    }

    /// Whether a volume can be made for the claim on the node.
    fn check_provision(&self, claim: &PersistentVolumeClaim, node: &Node) -> Result<(), Status> {
        let name = class_of_claim(claim);
        if name.is_empty() {
            return Err(Status::error(format!("no class for claim \"{}\"", claim.key())));
        }
        let Some(class) = self.classes.cache().get_key(&name) else {
            return Err(Status::error(format!("failed to find storage class \"{name}\"")));
        };
        let provisions = !class.provisioner.is_empty() && class.provisioner != NO_PROVISIONER;
        if !provisions || !topology_allows(&class, node) {
            return Err(Status::unresolvable(BIND_CONFLICT));
        }
        let driver = self.drivers.cache().get_key(&class.provisioner);
        if driver.is_none_or(|d| d.spec.storage_capacity != Some(true)) {
            return Ok(());
        }
        let Some(size) = storage_request(claim) else { return Ok(()) };
        let enough = self.capacities.cache().list().iter().any(|c| capacity_suffices(c, &name, size, node));
        if enough { Ok(()) } else { Err(Status::unresolvable(NO_SPACE)) }
    }

    /// Makes what is planned visible to the next pod.
    fn assume(&self, plan: &mut Plan, node: &str) {
        for (volume, claim) in &mut plan.bindings {
            *volume = Arc::new(matching::given_to(volume, claim));
            self.volumes.assume(volume.clone());
        }
        for claim in &mut plan.provisions {
            let mut changed = (**claim).clone();
            let annotations = changed.metadata.annotations.get_or_insert_default();
            annotations.insert(SELECTED_NODE.to_owned(), node.to_owned());
            *claim = Arc::new(changed);
            self.claims.assume(claim.clone());
        }
    }

    fn hint_for_class(old: Option<&StorageClass>, new: &StorageClass) -> bool {
        old.is_none_or(|old| old.allowed_topologies != new.allowed_topologies)
    }
}

#[async_trait]
impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER).and(Points::RESERVE).and(Points::PRE_BIND)
    }

    fn wakes_on(&self) -> u64 {
        let storage = kind::CLASS | kind::CLAIM_ADD | kind::CLAIM_UPDATE | kind::VOLUME;
        let csi = kind::CSI_NODE | kind::CSI_DRIVER | kind::CSI_CAPACITY;
        storage | csi | kind::NODE_ADD | kind::NODE_LABEL
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match &event.subject {
            Subject::Claim(_) => is_about_claim_of(pod, event),
            Subject::Class { old, new } => Self::hint_for_class(old.as_deref(), new),
            Subject::CsiNode { old, .. } => old.is_none(),
            Subject::CsiDriver { old, new } => {
                old.spec.storage_capacity == Some(true) && new.spec.storage_capacity != Some(true)
            }
            Subject::CsiCapacity { old, new } => old.as_ref().is_none_or(|old| find_limit(new) > find_limit(old)),
            _ => true,
        }
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, view: CycleView<'_>) -> PreFilter {
        if claim_names(&pod.pod).next().is_none() {
            return PreFilter::Skip;
        }
        match self.sort_out(&pod.pod) {
            Ok(claims) => {
                state.put(view.plugin, Kept { claims, plan: Plan::default() });
                PreFilter::All
            }
            Err(status) => PreFilter::Reject(status),
        }
    }

    fn filter(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        let kept = state.get::<Kept>(view.plugin)?;
        self.plan(&kept.claims, &node.node).err()
    }

    fn reserve(&self, state: &mut CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        let kept = state.get_mut::<Kept>(view.plugin)?;
        match self.plan(&kept.claims, &node.node) {
            Ok(mut plan) => {
                self.assume(&mut plan, &node.name);
                kept.plan = plan;
                None
            }
            Err(status) => Some(Status { code: Code::Error, ..status }),
        }
    }

    fn unreserve(&self, state: &CycleState, _: &PodInfo, _: &str, plugin: usize) {
        let Some(kept) = state.get::<Kept>(plugin) else { return };
        kept.plan.bindings.iter().for_each(|(volume, _)| self.volumes.restore(volume));
        kept.plan.provisions.iter().for_each(|claim| self.claims.restore(claim));
    }

    fn waits_before_binding(&self, state: &CycleState, plugin: usize) -> bool {
        state.get::<Kept>(plugin).is_some_and(|k| !k.plan.bindings.is_empty() || !k.plan.provisions.is_empty())
    }

    async fn pre_bind(&self, state: &CycleState, pod: &PodInfo, node: &str, plugin: usize) -> Option<Status> {
        if !self.waits_before_binding(state, plugin) {
            return None;
        }
        let plan = &state.get::<Kept>(plugin)?.plan;
        self.bind_volumes(plan, pod, node).await.err().map(Status::error)
    }
}
