//! DynamicResources: claims of devices. A claim is allocated when its first pod is scheduled: devices are sought on each
//! node among what the drivers publish in ResourceSlices, by class, selectors, constraints and counters.
//!
//! What is decided is taken in memory at once (see [`ledger`]) and written in PreBind, together with the pod in
//! `reservedFor`. The claims of templates are made by a controller; until then the pod stays out of the queue.
//!
//! Extended resources of containers may be devices as well, see [`extended`].
//!
//! Not here: DeviceTaintRules, resources of nodes as devices, claims of pod groups (all off by default).

mod bind;
mod capacity;
mod claims;
mod constraint;
mod extended;
mod ledger;
mod pools;
mod request;
mod result;
mod search;
mod selector;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::resource::v1::{AllocationResult, DeviceClass, ResourceClaim, ResourceSlice};
use async_trait::async_trait;
use client::Client;
use component_helpers::node_affinity::{Term, terms};
use informer::{Delta, Informer, Recorder};
use parking_lot::Mutex;
use rt::HashMap;
use rt::sync::watch;

use self::claims::{Readiness, allocation, consumers, has_room, is_overdue, is_reserved_for, readiness};
use self::extended::{OnNode, Special};
use self::ledger::Ledger;
use self::pools::Slices;
use self::search::{Allocator, Failed};
use self::selector::Selectors;
use crate::config::args::DynamicResourcesArgs;
use crate::device_classes::DeviceClasses;
use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status, default_normalize};
use crate::handle::Handle;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::post_filter::{PostFilter, PostFilterArgs};

/// Most alternatives of a request, upstream's number: the first scores highest.
const ALTERNATIVES_MAX: usize = 8;

/// See the module.
pub(crate) struct DynamicResources {
    client: Client,
    recorder: Recorder,
    claims: Informer<ResourceClaim>,
    classes: Informer<DeviceClass>,
    /// The classes behind extended resources.
    behind: DeviceClasses,
    slices: Informer<ResourceSlice>,
    ledger: Arc<Ledger>,
    selectors: Arc<Selectors>,
    /// Changes with each change of a claim.
    changes: watch::Sender<()>,
    /// How long the search on one node may take.
    search_limit: Option<Duration>,
    /// How long devices may take to become ready.
    timeout: Duration,
}

/// What PreFilter found, and what the later steps found for it. The later steps see it shared: it is about this pod only.
#[derive(Clone)]
struct Kept {
    claims: Vec<Arc<ResourceClaim>>,
    /// The claim for extended resources, beside those that the pod names.
    special: Option<Special>,
    /// Where the allocated ones can be used.
    reach: Vec<Option<Vec<Term>>>,
    /// For those that are not allocated.
    allocator: Option<Arc<Allocator>>,
    found: Arc<Mutex<HashMap<Arc<str>, Found>>>,
    /// Allocated claims that keep the pod off some node.
    unavailable: Arc<Mutex<BTreeSet<usize>>>,
    /// What Reserve took, by the place of the claim.
    reserved: Arc<Mutex<HashMap<usize, AllocationResult>>>,
    /// What Reserve took for extended resources.
    extended: Arc<Mutex<Option<Extended>>>,
    /// Claims as PreBind wrote them.
    written: Arc<Mutex<Vec<Arc<ResourceClaim>>>>,
}

/// What was found on a node.
struct Found {
    /// In the order of the claims that need one.
    allocations: Vec<AllocationResult>,
    /// For the extended resources.
    extended: Option<(OnNode, AllocationResult)>,
}

/// What Reserve took for extended resources.
#[derive(Clone)]
struct Extended {
    on_node: OnNode,
    allocation: AllocationResult,
    /// The object, once it is made.
    made: Option<Arc<ResourceClaim>>,
}

impl Kept {
    fn allocation(&self, at: usize) -> Option<AllocationResult> {
        self.reserved.lock().get(&at).cloned()
    }

    /// The claims that need an allocation, with their places.
    fn open(&self) -> impl Iterator<Item = (usize, &Arc<ResourceClaim>)> {
        self.claims.iter().enumerate().filter(|(_, claim)| allocation(claim).is_none())
    }
}

fn has_claims(pod: &PodInfo) -> bool {
    pod.pod.spec.as_ref().and_then(|s| s.resource_claims.as_ref()).is_some_and(|c| !c.is_empty())
}

impl DynamicResources {
    pub(crate) fn new(args: &DynamicResourcesArgs, handle: &Handle) -> Self {
        let claims = handle.factory.informer::<ResourceClaim>();
        let (ledger, changes) = (Arc::new(Ledger::default()), watch::Sender::new(()));
        let (seen, changed) = (ledger.clone(), changes.clone());
        claims.add_handler(move |delta: &Delta<ResourceClaim>| {
            let claim = delta.object();
            match delta {
                Delta::Added(new) => seen.seen(claim.uid(), None, allocation(new)),
                Delta::Updated { old, new } if old.uid() == new.uid() => {
                    seen.seen(claim.uid(), allocation(old), allocation(new));
                }
                Delta::Updated { old, new } => {
                    seen.seen(old.uid(), allocation(old), None);
                    seen.seen(new.uid(), None, allocation(new));
                }
                Delta::Deleted(old) => {
                    seen.seen(claim.uid(), allocation(old), None);
                    seen.give_back(claim.uid());
                }
            }
            changed.send_replace(());
        });
        Self {
            client: handle.client.clone(),
            recorder: handle.recorder.clone(),
            claims,
            classes: handle.factory.informer(),
            behind: DeviceClasses::new(&handle.factory, &handle.gates),
            slices: handle.factory.informer(),
            ledger,
            selectors: Arc::new(Selectors::new()),
            changes,
            search_limit: args.filter_timeout(),
            timeout: args.binding_timeout(),
        }
    }

    /// What is to be known before nodes are looked at.
    fn prepare(&self, pod: &PodInfo) -> Result<Option<Kept>, Status> {
        let claims = claims::of(&pod.pod, &self.claims).map_err(Status::unresolvable)?;
        let special = extended::special(pod, &self.behind, &self.claims);
        if claims.is_empty() && special.is_none() {
            return Ok(None);
        }
        let mut open = special.as_ref().is_some_and(|special| !special.stale);
        let mut reach = Vec::new();
        for claim in &claims {
            let Some(held) = allocation(claim) else {
                self.check_open(claim)?;
                open = true;
                reach.push(None);
                continue;
            };
            if !has_room(claim) && !is_reserved_for(claim, &pod.uid) {
                return Err(Status::unresolvable("resourceclaim in use"));
            }
            reach.push(held.node_selector.as_ref().map(terms));
        }
        let allocator = open.then(|| {
            let classes = self.classes.clone();
            Arc::new(Allocator {
                slices: Slices::new(self.slices.cache().list()),
                taken: self.ledger.taken(),
                classes: Box::new(move |name| classes.cache().get_key(name)),
                selectors: self.selectors.clone(),
                limit: self.search_limit,
            })
        });
        Ok(Some(Kept {
            claims,
            special,
            reach,
            allocator,
            found: Arc::default(),
            unavailable: Arc::default(),
            reserved: Arc::default(),
            extended: Arc::default(),
            written: Arc::default(),
        }))
    }

    fn check_open(&self, claim: &ResourceClaim) -> Result<(), Status> {
        if self.ledger.is_pending(claim.uid()) {
            let text = format!("resource claim {} is in the process of being allocated", claim.key());
            return Err(Status::unresolvable(text));
        }
        for (request, class) in request::classes(claim) {
            if class.is_empty() {
                return Err(Status::error(format!("request {request}: unsupported request type")));
            }
            if self.classes.cache().get_key(class).is_none() {
                let text = format!("request {request}: device class {class} does not exist");
                return Err(Status::unresolvable(text));
            }
        }
        Ok(())
    }

    /// Whether an allocated claim can be used on the node.
    fn is_usable(&self, claim: &ResourceClaim, reach: Option<&Vec<Term>>, node: &NodeInfo) -> bool {
        if reach.is_some_and(|terms| !terms.iter().any(|term| term.matches(&node.node))) {
            return false;
        }
        match readiness(claim) {
            Readiness::Ready => true,
            Readiness::Waiting => allocation(claim).is_none() || !is_overdue(claim, self.timeout, rt::time::now()),
            Readiness::Failed(_) => false,
        }
    }

    fn hint_for_claim(&self, pod: &PodInfo, old: Option<&ResourceClaim>, new: &ResourceClaim) -> bool {
        let Ok(claims) = claims::of(&pod.pod, &self.claims) else { return false };
        if old.is_some_and(|old| allocation(old).is_some()) && allocation(new).is_none() {
            return true;
        }
        claims.iter().any(|c| c.uid() == new.uid()) && old.is_none_or(|old| old.status != new.status)
    }
}

/// How much an allocation is preferred: alternatives that come first count more.
fn preference(claim: &ResourceClaim, allocation: &AllocationResult) -> i64 {
    let mut score = 0;
    for request in request::requests(claim) {
        for (at, one) in request.first_available.iter().flatten().enumerate() {
            let full = format!("{}/{}", request.name, one.name);
            if claims::devices(allocation).iter().any(|d| d.request == full) {
                score += i64::try_from(ALTERNATIVES_MAX.saturating_sub(at)).unwrap_or(0);
            }
        }
    }
    score
}

#[async_trait]
impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn points(&self) -> Points {
        let search = Points::PRE_ENQUEUE.and(Points::PRE_FILTER).and(Points::FILTER).and(Points::POST_FILTER);
        search.and(Points::PRE_SCORE).and(Points::SCORE).and(Points::RESERVE).and(Points::PRE_BIND)
    }

    fn wakes_on(&self) -> u64 {
        kind::POD_CLAIMS
            | kind::DEVICE_CLAIM
            | kind::DEVICE
            | kind::DEVICE_CLASS
            | kind::NODE_ADD
            | kind::NODE_LABEL
            | kind::NODE_ALLOCATABLE
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match &event.subject {
            Subject::DeviceClaim { old, new } => self.hint_for_claim(pod, old.as_deref(), new),
            Subject::Pod { new: Some(new), .. } => new.uid == pod.uid && claims::of(&new.pod, &self.claims).is_ok(),
            _ => true,
        }
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Option<Status> {
        if !has_claims(pod) {
            return None;
        }
        claims::of(&pod.pod, &self.claims).err().map(Status::unresolvable)
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, view: CycleView<'_>) -> PreFilter {
        if !has_claims(pod) && pod.requests.scalars.is_empty() {
            return PreFilter::Skip;
        }
        match self.prepare(pod) {
            Ok(None) => PreFilter::Skip,
            Ok(Some(kept)) => {
                state.put(view.plugin, kept);
                PreFilter::All
            }
            Err(status) => PreFilter::Reject(status),
        }
    }

    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        let kept = state.get::<Kept>(view.plugin)?;
        let special = kept.special.as_ref().map(|special| extended::on_node(special, pod, node, &self.behind));
        let on_node = match special.transpose() {
            Ok(on_node) => on_node.flatten(),
            Err(status) => return Some(status),
        };
        let mut unavailable = Vec::new();
        for (at, claim) in kept.claims.iter().enumerate().filter(|(_, claim)| allocation(claim).is_some()) {
            if !self.is_usable(claim, kept.reach[at].as_ref(), node) {
                unavailable.push(at);
            }
        }
        if !unavailable.is_empty() {
            kept.unavailable.lock().extend(unavailable);
            return Some(Status::unresolvable("resourceclaim not available on the node"));
        }
        let mut open: Vec<Arc<ResourceClaim>> = kept.open().map(|(_, claim)| claim.clone()).collect();
        open.extend(on_node.iter().map(|on_node| on_node.claim.clone()));
        let allocator = kept.allocator.as_ref().filter(|_| !open.is_empty())?;
        match allocator.allocate(&node.node, &open) {
            Ok(mut allocations) => {
                let extended = on_node.and_then(|on_node| Some((on_node, allocations.pop()?)));
                kept.found.lock().insert(node.name.clone(), Found { allocations, extended });
                None
            }
            Err(Failed::Unfit(why)) => Some(Status::unresolvable(why)),
            Err(Failed::Error(error)) => Some(Status::error(error)),
        }
    }

    async fn post_filter(&self, args: PostFilterArgs<'_>) -> PostFilter {
        let Some(kept) = args.state.get::<Kept>(args.plugin) else {
            return PostFilter::keep(Status::unschedulable("no new claims to deallocate"));
        };
        let unused = |claim: &&Arc<ResourceClaim>| match consumers(claim) {
            [] => true,
            [one] => one.uid == args.pod.uid,
            _ => false,
        };
        let idle = kept.unavailable.lock().iter().map(|at| &kept.claims[*at]).find(unused).cloned();
        let (done, word) = match (idle, &kept.special) {
            (Some(claim), _) => (bind::deallocate(&self.client, &claim).await, "deallocation"),
            (None, Some(special)) if special.stale => {
                (bind::delete(&self.client, (*special.claim).clone()).await, "deletion")
            }
            _ => return PostFilter::keep(Status::unschedulable("still not schedulable")),
        };
        match done {
            Ok(()) => PostFilter::keep(Status::unschedulable(format!("{word} of ResourceClaim completed"))),
            Err(error) => PostFilter::keep(Status::error(error)),
        }
    }

    fn pre_score(&self, state: &mut CycleState, _: &PodInfo, _: &[usize], view: CycleView<'_>) -> bool {
        state.get::<Kept>(view.plugin).is_some()
    }

    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        let Some(kept) = state.get::<Kept>(view.plugin) else { return 0 };
        let found = kept.found.lock();
        let mut fresh = found.get(&node.name).into_iter().flat_map(|found| &found.allocations);
        let each =
            kept.claims.iter().filter_map(|claim| Some(preference(claim, allocation(claim).or_else(|| fresh.next())?)));
        each.sum()
    }

    fn normalize(&self, _: &CycleState, scores: &mut [i64], _: &[usize], _: CycleView<'_>) {
        default_normalize(scores, false);
    }

    fn reserve(&self, state: &mut CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        let kept = state.get::<Kept>(view.plugin)?;
        let open: Vec<_> = kept.open().map(|(at, claim)| (at, claim.uid().to_owned())).collect();
        let found = kept.found.lock().remove(&node.name);
        if open.is_empty() && found.is_none() {
            return None;
        }
        let Some(found) = found.filter(|found| found.allocations.len() == open.len()) else {
            return Some(Status::error("claim allocation not found for node"));
        };
        if let Some((on_node, allocation)) = found.extended {
            self.ledger.take(on_node.claim.uid(), &allocation);
            *kept.extended.lock() = Some(Extended { on_node, allocation, made: None });
        }
        for ((at, uid), allocation) in open.into_iter().zip(found.allocations) {
            self.ledger.take(&uid, &allocation);
            kept.reserved.lock().insert(at, allocation);
        }
        None
    }

    fn unreserve(&self, state: &CycleState, pod: &PodInfo, _: &str, plugin: usize) {
        let Some(kept) = state.get::<Kept>(plugin) else { return };
        for at in std::mem::take(&mut *kept.reserved.lock()).into_keys() {
            self.ledger.give_back(kept.claims[at].uid());
        }
        if let Some(extended) = kept.extended.lock().take() {
            self.ledger.give_back(extended.on_node.claim.uid());
            if let Some(made) = extended.made {
                self.ledger.give_back(made.uid());
                rt::spawn("delete a resource claim", bind::clean_up(self.client.clone(), made));
            }
        }
        let written = std::mem::take(&mut *kept.written.lock());
        for claim in kept.claims.iter().filter(|c| is_reserved_for(c, &pod.uid)).cloned().chain(written) {
            rt::spawn("give a resource claim up", bind::give_up(self.client.clone(), claim, pod.uid.clone()));
        }
    }

    fn waits_before_binding(&self, state: &CycleState, plugin: usize) -> bool {
        state.get::<Kept>(plugin).is_some_and(|kept| !kept.claims.is_empty() || kept.extended.lock().is_some())
    }

    async fn pre_bind(&self, state: &CycleState, pod: &PodInfo, node: &str, plugin: usize) -> Option<Status> {
        let kept = state.get::<Kept>(plugin)?;
        self.bind_claims(kept, pod, node).await.err().map(Status::error)
    }
}

#[cfg(test)]
mod tests;
