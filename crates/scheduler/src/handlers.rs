//! From watch events to cache and queue.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use api::k8s::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use informer::{Delta, Factory, Informer};

use crate::events::{ClusterEvent, Subject, kind};
use crate::node_info::taints;
use crate::pod_info::{PodInfo, node_name};
use crate::scheduler::Scheduler;

/// Connects the informers to the scheduler.
pub(crate) fn attach(scheduler: &Arc<Scheduler>, factory: &Factory, pods: &Informer<Pod>, nodes: &Informer<Node>) {
    let of_node = scheduler.clone();
    nodes.add_handler(move |delta| node_changed(&of_node, delta));
    let of_pod = scheduler.clone();
    pods.add_handler(move |delta| pod_changed(&of_pod, delta));
    attach_storage(scheduler, factory);
    attach_devices(scheduler, factory);
    if let Some(groups) = &scheduler.pod_groups {
        let of_group = scheduler.clone();
        groups.add_handler(move |delta| {
            if let Delta::Added(group) = delta {
                let subject = Subject::PodGroup(group.clone());
                of_group.event(ClusterEvent { kinds: kind::POD_GROUP_ADD, subject });
                ungate(&of_group);
            }
        });
    }
}

/// Lets pods into the queue that no plugin keeps out any more.
fn ungate(scheduler: &Scheduler) {
    let free = |pod: &PodInfo| scheduler.profile_of(&pod.pod).is_some_and(|a| a.profile.gate(pod).is_none());
    scheduler.queue.ungate(&free);
}

fn attach_devices(scheduler: &Arc<Scheduler>, factory: &Factory) {
    let of_claim = scheduler.clone();
    factory.informer::<ResourceClaim>().add_handler(move |delta| {
        let (old, new) = match delta {
            Delta::Added(new) => (None, new.clone()),
            Delta::Updated { old, new } => (Some(old.clone()), new.clone()),
            // One that goes with its devices frees them.
            Delta::Deleted(old) if is_allocated(old) => {
                let freed = ResourceClaim { status: None, ..(**old).clone() };
                (Some(old.clone()), Arc::new(freed))
            }
            Delta::Deleted(_) => return,
        };
        of_claim.event(ClusterEvent { kinds: kind::DEVICE_CLAIM, subject: Subject::DeviceClaim { old, new } });
        // Pods whose claims were not there are kept out of the queue.
        ungate(&of_claim);
    });
    on::<DeviceClass>(scheduler, factory, |delta| match delta {
        Delta::Added(new) => event(kind::DEVICE_CLASS, Subject::DeviceClass { old: None, new: new.clone() }),
        Delta::Updated { old, new } => {
            event(kind::DEVICE_CLASS, Subject::DeviceClass { old: Some(old.clone()), new: new.clone() })
        }
        Delta::Deleted(_) => None,
    });
    on::<ResourceSlice>(scheduler, factory, device_event);
}

fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|s| s.allocation.is_some())
}

fn device_event<T>(delta: &Delta<T>) -> Option<ClusterEvent> {
    (!matches!(delta, Delta::Deleted(_))).then(|| ClusterEvent::other(kind::DEVICE))
}

fn on<T: Kind>(
    scheduler: &Arc<Scheduler>,
    factory: &Factory,
    event: impl Fn(&Delta<T>) -> Option<ClusterEvent> + Send + Sync + 'static,
) {
    let scheduler = scheduler.clone();
    factory.informer::<T>().add_handler(move |delta| {
        if let Some(event) = event(delta) {
            scheduler.event(event);
        }
    });
}

fn event(kinds: u64, subject: Subject) -> Option<ClusterEvent> {
    Some(ClusterEvent { kinds, subject })
}

fn attach_storage(scheduler: &Arc<Scheduler>, factory: &Factory) {
    on::<PersistentVolumeClaim>(scheduler, factory, |delta| match delta {
        Delta::Added(claim) => event(kind::CLAIM_ADD, Subject::Claim(claim.clone())),
        Delta::Updated { new, .. } => event(kind::CLAIM_UPDATE, Subject::Claim(new.clone())),
        Delta::Deleted(_) => None,
    });
    on::<PersistentVolume>(scheduler, factory, |delta| match delta {
        Delta::Deleted(_) => None,
        _ => event(kind::VOLUME, Subject::Other),
    });
    on::<StorageClass>(scheduler, factory, |delta| match delta {
        Delta::Added(new) => event(kind::CLASS, Subject::Class { old: None, new: new.clone() }),
        Delta::Updated { old, new } => event(kind::CLASS, Subject::Class { old: Some(old.clone()), new: new.clone() }),
        Delta::Deleted(_) => None,
    });
    on::<CSINode>(scheduler, factory, |delta| match delta {
        Delta::Added(new) => event(kind::CSI_NODE, Subject::CsiNode { old: None, new: new.clone() }),
        Delta::Updated { old, new } => {
            event(kind::CSI_NODE, Subject::CsiNode { old: Some(old.clone()), new: new.clone() })
        }
        Delta::Deleted(_) => None,
    });
    on::<CSIDriver>(scheduler, factory, |delta| match delta {
        Delta::Updated { old, new } => {
            event(kind::CSI_DRIVER, Subject::CsiDriver { old: old.clone(), new: new.clone() })
        }
        _ => None,
    });
    on::<CSIStorageCapacity>(scheduler, factory, |delta| match delta {
        Delta::Added(new) => event(kind::CSI_CAPACITY, Subject::CsiCapacity { old: None, new: new.clone() }),
        Delta::Updated { old, new } => {
            event(kind::CSI_CAPACITY, Subject::CsiCapacity { old: Some(old.clone()), new: new.clone() })
        }
        Delta::Deleted(_) => None,
    });
    on::<VolumeAttachment>(scheduler, factory, |delta| match delta {
        Delta::Deleted(_) => Some(ClusterEvent::other(kind::ATTACHMENT_DELETE)),
        _ => None,
    });
}

fn node_changed(scheduler: &Scheduler, delta: &Delta<Node>) {
    let (kinds, subject) = match delta {
        Delta::Deleted(node) => {
            scheduler.cache.lock().remove_node(node.name());
            (kind::NODE_DELETE, Subject::Node { old: Some(node.clone()), new: None })
        }
        Delta::Added(node) => {
            scheduler.cache.lock().upsert_node(node.clone());
            (kind::NODE_ADD, Subject::Node { old: None, new: Some(node.clone()) })
        }
        Delta::Updated { old, new } => {
            scheduler.cache.lock().upsert_node(new.clone());
            (node_changes(old, new), Subject::Node { old: Some(old.clone()), new: Some(new.clone()) })
        }
    };
    if kinds != 0 {
        scheduler.event(ClusterEvent { kinds, subject });
    }
}

fn allocatable(node: &Node) -> Option<&std::collections::BTreeMap<String, api::prelude::Quantity>> {
    node.status.as_ref()?.allocatable.as_ref()
}

/// What of a node changed that may let a pod in; heartbeats change nothing.
fn node_changes(old: &Node, new: &Node) -> u64 {
    let mut kinds = 0;
    if allocatable(old) != allocatable(new) {
        kinds |= kind::NODE_ALLOCATABLE;
    }
    if old.metadata.labels != new.metadata.labels {
        kinds |= kind::NODE_LABEL;
    }
    let features = |n: &Node| n.status.as_ref().and_then(|s| s.declared_features.clone());
    if features(old) != features(new) {
        kinds |= kind::NODE_FEATURES;
    }
    let cordoned = |n: &Node| n.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
    if taints(old) != taints(new) || cordoned(old) != cordoned(new) {
        kinds |= kind::NODE_TAINT;
    }
    kinds
}

fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

fn pod_changed(scheduler: &Scheduler, delta: &Delta<Pod>) {
    let pod = delta.object();
    let gone = matches!(delta, Delta::Deleted(_)) || is_terminal(pod);
    if gone {
        forget(scheduler, pod);
    } else if node_name(pod).is_empty() {
        pending(scheduler, delta, pod);
    } else {
        placed(scheduler, delta, pod);
    }
}

fn forget(scheduler: &Scheduler, pod: &Arc<Pod>) {
    scheduler.groups.gone(pod);
    scheduler.queue.remove(pod.uid());
    scheduler.nominator.remove(pod.uid());
    scheduler.waiting.end(pod.uid(), Err("the pod is deleted".to_owned()));
    let freed = scheduler.cache.lock().remove_pod(pod.uid());
    let freed = freed.or_else(|| {
        // What was kept for a nominated pod is free, too.
        let info = PodInfo::new(pod.clone());
        (node_name(pod).is_empty() && !info.nominated().is_empty()).then(|| Arc::new(info))
    });
    if let Some(freed) = freed {
        scheduler.event(ClusterEvent::pod_deleted(freed));
    }
}

/// What of a pod changed that may matter to its own scheduling, or to that of others.
fn pod_changes(old: &Pod, new: &Pod, before: &PodInfo, after: &PodInfo) -> u64 {
    let mut kinds = 0;
    if old.metadata.labels != new.metadata.labels {
        kinds |= kind::POD_LABEL;
    }
    if before.requests.more_than(&after.requests, &before.requests) {
        kinds |= kind::POD_SCALE_DOWN;
    }
    let gates = |p: &Pod| p.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|g| !g.is_empty());
    if gates(old) && !gates(new) {
        kinds |= kind::POD_GATES;
    }
    if before.tolerations() != after.tolerations() {
        kinds |= kind::POD_TOLERATIONS;
    }
    let claims = |p: &Pod| p.status.as_ref().and_then(|s| s.resource_claim_statuses.clone());
    if claims(old) != claims(new) {
        kinds |= kind::POD_CLAIMS;
    }
    kinds
}

fn pending(scheduler: &Scheduler, delta: &Delta<Pod>, pod: &Arc<Pod>) {
    let Some(active) = scheduler.profile_of(pod) else { return };
    if scheduler.cache.lock().is_placed(pod.uid()) {
        return;
    }
    if pod.is_deleting() {
        scheduler.queue.remove(pod.uid());
        scheduler.nominator.remove(pod.uid());
        return;
    }
    scheduler.groups.waiting(pod);
    let info = Arc::new(PodInfo::new(pod.clone()));
    let mut change = None;
    let mut nominated = String::new();
    if let Delta::Updated { old, .. } = delta {
        let before = PodInfo::new(old.clone());
        before.nominated().clone_into(&mut nominated);
        let kinds = pod_changes(old, pod, &before, &info);
        if kinds != 0 {
            change = Some(ClusterEvent::pod_changed(kinds, Arc::new(before), info.clone()));
        }
    }
    scheduler.nominator.refresh(&info, &nominated);
    let gated = active.profile.gate(&info).is_some();
    let member = scheduler.groups.of(pod).is_some() && !matches!(delta, Delta::Updated { .. });
    let new = member.then(|| ClusterEvent::pod_new(info.clone()));
    scheduler.queue.upsert(info, gated, change, &|pod, by, event| scheduler.helps(pod, by, event));
    if let Some(new) = new {
        scheduler.event(new);
        ungate(scheduler);
    }
}

fn placed(scheduler: &Scheduler, delta: &Delta<Pod>, pod: &Arc<Pod>) {
    scheduler.groups.assigned(pod);
    let newly = match delta {
        Delta::Updated { old, .. } => node_name(old).is_empty(),
        _ => true,
    };
    if newly {
        scheduler.queue.remove(pod.uid());
        scheduler.nominator.remove(pod.uid());
    }
    let (before, after) = scheduler.cache.lock().upsert_pod(pod);
    match (delta, before) {
        (Delta::Updated { old, .. }, Some(before)) if !newly => {
            let kinds = pod_changes(old, pod, &before, &after) & (kind::POD_LABEL | kind::POD_SCALE_DOWN);
            if kinds != 0 {
                scheduler.event(ClusterEvent::pod_changed(kinds, before, after));
            }
        }
        _ => scheduler.event(ClusterEvent::pod_added(after)),
    }
}
