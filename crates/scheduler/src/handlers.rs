//! From watch events to cache and queue.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, Pod};
use informer::{Delta, Informer};

use crate::events::{ClusterEvent, kind};
use crate::pod_info::{PodInfo, node_name};
use crate::scheduler::Scheduler;

/// Connects the informers to the scheduler.
pub(crate) fn attach(scheduler: &Arc<Scheduler>, pods: &Informer<Pod>, nodes: &Informer<Node>) {
    let of_node = scheduler.clone();
    nodes.add_handler(move |delta| node_changed(&of_node, delta));
    let of_pod = scheduler.clone();
    pods.add_handler(move |delta| pod_changed(&of_pod, delta));
}

fn node_changed(scheduler: &Scheduler, delta: &Delta<Node>) {
    let kinds = match delta {
        Delta::Deleted(node) => {
            scheduler.cache.lock().remove_node(node.name());
            return;
        }
        Delta::Added(_) => kind::NODE_ADD,
        Delta::Updated { old, new } => changes(old, new),
    };
    let event = {
        let mut cache = scheduler.cache.lock();
        let node = delta.object();
        cache.upsert_node(node.clone());
        cache.node(node.name()).map(|info| ClusterEvent::node(kinds, info))
    };
    if let Some(event) = event.filter(|e| e.kinds != 0) {
        scheduler.event(event);
    }
}

/// What of a node changed that may let a pod in; heartbeats change nothing.
fn changes(old: &Node, new: &Node) -> u32 {
    let mut kinds = 0;
    let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
    if allocatable(old) != allocatable(new) {
        kinds |= kind::NODE_ALLOCATABLE;
    }
    if old.metadata.labels != new.metadata.labels {
        kinds |= kind::NODE_LABEL;
    }
    let blocked = |n: &Node| n.spec.as_ref().map(|s| (s.taints.clone(), s.unschedulable));
    if blocked(old) != blocked(new) {
        kinds |= kind::NODE_TAINT;
    }
    kinds
}

fn is_ours(scheduler: &Scheduler, pod: &Pod) -> bool {
    let name = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler");
    name == scheduler.name
}

fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

fn pod_changed(scheduler: &Scheduler, delta: &Delta<Pod>) {
    let pod = delta.object();
    let gone = matches!(delta, Delta::Deleted(_)) || is_terminal(pod);
    if gone {
        scheduler.queue.remove(pod.uid());
        let freed = scheduler.cache.lock().remove_pod(pod.uid());
        if let Some(freed) = freed {
            scheduler.event(ClusterEvent::pod(kind::POD_DELETE, freed));
        }
    } else if node_name(pod).is_empty() {
        pending(scheduler, pod);
    } else {
        placed(scheduler, delta, pod);
    }
}

fn pending(scheduler: &Scheduler, pod: &Arc<Pod>) {
    if !is_ours(scheduler, pod) || scheduler.cache.lock().is_placed(pod.uid()) {
        return;
    }
    if pod.is_deleting() {
        scheduler.queue.remove(pod.uid());
        return;
    }
    let info = Arc::new(PodInfo::new(pod.clone()));
    let gated = scheduler.cycle.lock().gate(&info).is_some();
    scheduler.queue.upsert(info, gated);
}

fn placed(scheduler: &Scheduler, delta: &Delta<Pod>, pod: &Arc<Pod>) {
    scheduler.queue.remove(pod.uid());
    let kinds = match delta {
        Delta::Updated { old, new } if !node_name(old).is_empty() => {
            // Status changes of a pod that runs free nothing.
            if old.spec == new.spec && old.metadata.labels == new.metadata.labels {
                return;
            }
            kind::POD_UPDATE
        }
        _ => kind::POD_ADD,
    };
    scheduler.cache.lock().upsert_pod(pod);
    scheduler.event(ClusterEvent::pod(kinds, Arc::new(PodInfo::new(pod.clone()))));
}
