//! Pod garbage collection: pods of nodes that are gone, pods that were deleted before they got a node, pods on nodes that
//! are out of service, and the oldest of too many ended ones.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::{Node, Pod};
use client::{DeleteOptions, Error, PatchKind};
use informer::{Delta, Informer, Queue, run_workers};
use serde_json::json;

use crate::cluster::node_lifecycle::{BY_NODE, by_node, condition, taints};
use crate::cluster::taint_eviction::disrupt;
use crate::frame::Context;
use crate::pods;

/// How long a node must be gone before its pods are taken for lost.
const QUARANTINE: Duration = Duration::from_secs(40);
/// The key of the look at ended pods.
const ENDED: &str = "";

struct Controller {
    context: Context,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    queue: Arc<Queue<String>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let (nodes, pods) = (factory.informer::<Node>(), factory.informer::<Pod>());
    pods.add_index(BY_NODE, by_node);
    let queue = Arc::new(Queue::new());
    let shutdown = context.shutdown.clone();
    let controller = Arc::new(Controller { context, nodes, pods, queue: queue.clone() });
    controller.nodes.synced().await;
    controller.pods.synced().await;
    let events = Arc::downgrade(&controller);
    controller.nodes.add_handler(move |delta| {
        let Some(controller) = events.upgrade() else { return };
        let there = controller.pods.cache().by_index(BY_NODE, delta.object().name());
        match delta {
            Delta::Deleted(_) => there.iter().for_each(|p| controller.queue.add_after(p.key(), QUARANTINE)),
            _ if out_of_service(delta.object()) => there.iter().for_each(|p| controller.queue.add(p.key())),
            _ => {}
        }
    });
    let events = Arc::downgrade(&controller);
    controller.pods.add_handler(move |delta| {
        if let Some(controller) = events.upgrade() {
            controller.pod_changed(delta);
        }
    });
    run_workers("pod gc", queue, 2, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

fn out_of_service(node: &Node) -> bool {
    taints(node).iter().any(|t| t.key == "node.kubernetes.io/out-of-service")
        && condition(node, "Ready").is_none_or(|c| c.status != "True")
}

impl Controller {
    fn pod_changed(&self, delta: &Delta<Pod>) {
        if matches!(delta, Delta::Deleted(_)) {
            return;
        }
        let pod = delta.object();
        match by_node(pod).first() {
            None if pod.is_deleting() => self.queue.add(pod.key()),
            Some(node) if self.nodes.cache().get_key(node).is_none() => self.queue.add_after(pod.key(), QUARANTINE),
            Some(node) if pod.is_deleting() && self.nodes.cache().get_key(node).is_some_and(|n| out_of_service(&n)) => {
                self.queue.add(pod.key());
            }
            _ => {}
        }
        if pods::is_terminal(pod) && self.context.options.terminated_pod_threshold.is_some() {
            self.queue.add_after(ENDED.to_owned(), Duration::from_secs(20));
        }
    }

    async fn sync(&self, key: &str) -> Result<(), Error> {
        if key == ENDED {
            return self.trim_ended().await;
        }
        let Some(pod) = self.pods.cache().get_key(key) else { return Ok(()) };
        let why = match by_node(&pod).first() {
            None if pod.is_deleting() => None,
            None => return Ok(()),
            Some(name) => match self.nodes.cache().get_key(name) {
                Some(node) if pod.is_deleting() && out_of_service(&node) => {
                    Some(("DeletionByPodGC", "PodGC: node no longer exists"))
                }
                Some(_) => return Ok(()),
                None => match self.context.client.get::<Node>("", name).await {
                    Ok(_) => return Ok(()),
                    Err(error) if error.is_not_found() => Some(("DeletionByPodGC", "PodGC: node no longer exists")),
                    Err(error) => return Err(error),
                },
            },
        };
        if let Some(why) = why {
            let phase = if pods::is_terminal(&pod) { None } else { Some("Failed") };
            disrupt(&self.context.client, &pod, why, phase).await?;
        } else if !pods::is_terminal(&pod) {
            self.fail(&pod).await?;
        }
        self.delete(&pod).await
    }

    /// Ends a pod that no kubelet will ever end: whoever holds it by a finalizer waits for that.
    async fn fail(&self, pod: &Pod) -> Result<(), Error> {
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"phase": "Failed"}});
        let client = &self.context.client;
        match client.patch_status::<Pod>(pod.namespace(), pod.name(), &PatchKind::Strategic, &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete(&self, pod: &Pod) -> Result<(), Error> {
        match self.context.client.delete::<Pod>(pod.namespace(), pod.name(), &DeleteOptions::now(pod.uid())).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    async fn trim_ended(&self) -> Result<(), Error> {
        let Some(threshold) = self.context.options.terminated_pod_threshold else { return Ok(()) };
        let mut ended = self.pods.cache().list();
        ended.retain(|p| pods::is_terminal(p) && !p.is_deleting());
        if ended.len() <= threshold {
            return Ok(());
        }
        ended.sort_by_key(|p| {
            let evicted = p.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted");
            (!evicted, p.metadata.creation_timestamp.as_ref().map(|t| t.0), p.name().to_owned())
        });
        for pod in &ended[..ended.len() - threshold] {
            self.delete(pod).await?;
        }
        Ok(())
    }
}
