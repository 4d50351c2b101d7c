//! Node lifecycle: nodes that fall silent become Unknown, and conditions become taints.
//!
//! A node speaks by its Lease or its status. Silence is measured by our own clock, from when the last word came. The
//! taints that empty a node are given at a limited rate per zone, and not at all when everything looks dead, since then
//! it is more likely us who are cut off.

mod taints;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::coordination::v1::Lease;
use api::k8s::core::v1::{Node, NodeCondition, Pod};
use api::metav1::Time;
use client::{Error, PatchKind};
use futures::future::join_all;
use informer::{Delta, EventType, Informer, Queue, Scope, run_workers};
use parking_lot::Mutex;
use rt::HashMap;
use rt::time::Instant;
use serde_json::json;

use crate::frame::Context;
use crate::pods;

pub(crate) use self::taints::{condition, taints};
use self::zones::Zones;

/// The index of pods by node.
pub(crate) const BY_NODE: &str = "node";

/// Index values of a pod.
pub(crate) fn by_node(pod: &Pod) -> Vec<String> {
    pod.spec.iter().filter_map(|s| s.node_name.clone()).filter(|n| !n.is_empty()).collect()
}

/// What a kubelet reports; on silence all of it is unknown.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

struct Controller {
    context: Context,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    /// When each node last spoke.
    spoke: Mutex<HashMap<String, Instant>>,
    zones: Mutex<Zones>,
    queue: Arc<Queue<String>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let (nodes, pods) = (factory.informer::<Node>(), factory.informer::<Pod>());
    pods.add_index(BY_NODE, by_node);
    let leases = factory.scoped::<Lease>(Scope { namespace: "kube-node-lease".into(), ..Scope::default() });
    let queue = Arc::new(Queue::new());
    let shutdown = context.shutdown.clone();
    let zones = Mutex::new(Zones::new(context.options.eviction.clone()));
    let controller =
        Arc::new(Controller { context, nodes, pods, spoke: Mutex::default(), zones, queue: queue.clone() });
    let events = Arc::downgrade(&controller);
    controller.nodes.add_handler(move |delta| {
        if let Some(controller) = events.upgrade() {
            controller.node_changed(delta);
        }
    });
    let events = Arc::downgrade(&controller);
    leases.add_handler(move |delta| {
        let Some(controller) = events.upgrade() else { return };
        let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|s| s.renew_time.clone());
        match delta {
            Delta::Updated { old, new } if renewed(old) != renewed(new) => controller.heard(new.name()),
            Delta::Added(lease) => controller.heard(lease.name()),
            _ => {}
        }
    });
    let events = Arc::downgrade(&controller);
    controller.pods.add_handler(move |delta| {
        // A pod that comes to a node that is not ready must be marked as well.
        if let (Some(controller), Delta::Updated { old, new }) = (events.upgrade(), delta)
            && by_node(old) != by_node(new)
        {
            by_node(new).into_iter().for_each(|node| controller.queue.add(node));
        }
    });
    controller.nodes.synced().await;
    controller.pods.synced().await;
    leases.synced().await;
    run_workers("node lifecycle", queue, 4, shutdown, move |name: String| {
        let controller = controller.clone();
        async move { controller.sync(&name).await }
    })
    .await;
}

impl Controller {
    fn heard(&self, node: &str) {
        self.spoke.lock().insert(node.to_owned(), Instant::now());
        // Only one that was given up needs a look; the others are looked at when their time is over.
        let lost = self
            .nodes
            .cache()
            .get_key(node)
            .is_some_and(|n| condition(&n, "Ready").is_some_and(|c| c.status == "Unknown"));
        if lost {
            self.queue.add(node.to_owned());
        }
    }

    fn node_changed(&self, delta: &Delta<Node>) {
        let node = delta.object();
        match delta {
            Delta::Deleted(_) => {
                self.spoke.lock().remove(node.name());
                let message = format!("Node {} event: Removing Node {} from Controller", node.name(), node.name());
                self.context.recorder.event(&**node, EventType::Normal, "RemovingNode", message);
            }
            Delta::Added(_) => {
                self.spoke.lock().entry(node.name().to_owned()).or_insert_with(Instant::now);
                let message = format!("Node {} event: Registered Node {} in Controller", node.name(), node.name());
                self.context.recorder.event(&**node, EventType::Normal, "RegisteredNode", message);
            }
            Delta::Updated { old, new } => {
                let beat = |node: &Node| condition(node, "Ready").and_then(|c| c.last_heartbeat_time.clone());
                if beat(old) != beat(new) && condition(new, "Ready").is_some_and(|c| c.status != "Unknown") {
                    self.spoke.lock().insert(new.name().to_owned(), Instant::now());
                }
            }
        }
        self.queue.add(node.name().to_owned());
    }

    async fn sync(&self, name: &str) -> Result<(), Error> {
        let Some(node) = self.nodes.cache().get_key(name) else { return Ok(()) };
        let last = *self.spoke.lock().entry(name.to_owned()).or_insert_with(Instant::now);
        let grace = self.context.options.node_monitor_grace;
        let silent = last.elapsed() >= grace;
        if !silent {
            self.queue.add_after(name.to_owned(), grace.saturating_sub(last.elapsed()) + Duration::from_millis(10));
        }
        let node = if silent { self.give_up(&node).await? } else { node };
        if node.is_deleting() {
            return Ok(());
        }
        self.write_taints(&node).await?;
        let ready = condition(&node, "Ready").map(|c| c.status.as_str());
        if matches!(ready, Some("False" | "Unknown")) {
            self.mark_pods(name).await?;
        }
        Ok(())
    }

    /// Says in the node's status that nothing is known.
    async fn give_up(&self, node: &Arc<Node>) -> Result<Arc<Node>, Error> {
        let now = Time(rt::time::now());
        let mut changed = (**node).clone();
        let conditions = changed.status.get_or_insert_default().conditions.get_or_insert_default();
        let mut any = false;
        for kind in REPORTED {
            match conditions.iter_mut().find(|c| c.type_ == kind) {
                None => conditions.push(NodeCondition {
                    type_: kind.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: Some(now.clone()),
                }),
                Some(found) if found.status != "Unknown" => {
                    found.status = "Unknown".to_owned();
                    found.reason = Some("NodeStatusUnknown".to_owned());
                    found.message = Some("Kubelet stopped posting node status.".to_owned());
                    found.last_transition_time = Some(now.clone());
                }
                Some(_) => continue,
            }
            any = true;
        }
        if !any {
            return Ok(node.clone());
        }
        let was_ready = condition(node, "Ready").is_some_and(|c| c.status == "True");
        if was_ready {
            let message = format!("Node {} status is now: NodeNotReady", node.name());
            self.context.recorder.event(&**node, EventType::Normal, "NodeNotReady", message);
        }
        Ok(Arc::new(self.context.client.update_status(&changed).await?))
    }

    async fn write_taints(&self, node: &Arc<Node>) -> Result<(), Error> {
        let (mut wanted, emptying) = taints::wanted(node, rt::time::now());
        if let Some(emptying) = emptying
            && !wanted.iter().any(|t| t.key == emptying.key && t.effect == emptying.effect)
        {
            let all = || self.nodes.cache().list();
            match self.zones.lock().admit(node, all, Instant::now()) {
                Ok(()) => wanted.push(emptying),
                Err(wait) => self.queue.add_after(node.name().to_owned(), wait),
            }
        }
        if wanted == taints::taints(node) {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version()},
            "spec": {"taints": wanted},
        });
        match self.context.client.patch::<Node>("", node.name(), &PatchKind::Merge, &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// The pods of a node that is not ready are not ready either, whatever they last said.
    async fn mark_pods(&self, node: &str) -> Result<(), Error> {
        let there = self.pods.cache().by_index(BY_NODE, node);
        let ready = there.iter().filter(|pod| pods::is_ready(pod) && !pod.is_deleting());
        let calls = ready.map(|pod| async move {
            let patch = json!({"status": {"conditions": [{
                "type": "Ready", "status": "False", "lastTransitionTime": Time(rt::time::now()),
            }]}});
            self.context.recorder.event(&**pod, EventType::Warning, "NodeNotReady", "Node is not ready");
            self.context.client.patch_status::<Pod>(pod.namespace(), pod.name(), &PatchKind::Strategic, &patch).await
        });
        for result in join_all(calls).await {
            match result {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
