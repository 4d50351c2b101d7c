//! Taint eviction: deletes the pods of a node that do not tolerate its `NoExecute` taints, at once or after the time that
//! they tolerate.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::{Node, Pod, Taint, Toleration};
use client::{DeleteOptions, Error, PatchKind};
use component_helpers::tolerations::tolerates;
use informer::{Delta, EventType, Informer, Queue, run_workers};
use parking_lot::Mutex;
use rt::HashMap;
use rt::time::Instant;
use serde_json::json;

use crate::cluster::node_lifecycle::{BY_NODE, by_node, taints};
use crate::frame::Context;
use crate::pods;

/// When a pod is to go.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It may stay.
    Stay,
    /// It goes after this time.
    After(Duration),
}

fn verdict(taints: &[&Taint], tolerations: &[Toleration]) -> Verdict {
    if taints.is_empty() {
        return Verdict::Stay;
    }
    let mut least: Option<Duration> = None;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|t| tolerates(t, taint)) else {
            return Verdict::After(Duration::ZERO);
        };
        if let Some(seconds) = toleration.toleration_seconds {
            let time = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            least = Some(least.map_or(time, |l| l.min(time)));
        }
    }
    least.map_or(Verdict::Stay, Verdict::After)
}

struct Controller {
    context: Context,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    queue: Arc<Queue<String>>,
    /// Since when pods (by key, with their uid) are waiting to go.
    since: Mutex<HashMap<String, (String, Instant)>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let (nodes, pods) = (factory.informer::<Node>(), factory.informer::<Pod>());
    pods.add_index(BY_NODE, by_node);
    let queue = Arc::new(Queue::new());
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller { context, nodes, pods, queue: queue.clone(), since: Mutex::default() });
    controller.nodes.synced().await;
    controller.pods.synced().await;
    let events = Arc::downgrade(&controller);
    controller.nodes.add_handler(move |delta| {
        let Some(controller) = events.upgrade() else { return };
        let node = delta.object();
        let changed = match delta {
            Delta::Updated { old, new } => evicting(old) != evicting(new),
            Delta::Added(node) => !evicting(node).is_empty(),
            Delta::Deleted(_) => false,
        };
        if changed {
            controller.pods.cache().by_index(BY_NODE, node.name()).iter().for_each(|p| controller.queue.add(p.key()));
        }
    });
    let events = Arc::downgrade(&controller);
    controller.pods.add_handler(move |delta| {
        let Some(controller) = events.upgrade() else { return };
        let pod = delta.object();
        let relevant = match delta {
            Delta::Updated { old, new } => {
                let tolerations = |p: &Pod| p.spec.as_ref().and_then(|s| s.tolerations.clone());
                by_node(old) != by_node(new) || tolerations(old) != tolerations(new)
            }
            _ => true,
        };
        if relevant {
            controller.queue.add(pod.key());
        }
    });
    run_workers("taint eviction", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

fn evicting(node: &Node) -> Vec<&Taint> {
    taints(node).iter().filter(|t| t.effect == "NoExecute").collect()
}

impl Controller {
    fn cancel(&self, key: &str, pod: Option<&Pod>) {
        if self.since.lock().remove(key).is_some()
            && let Some(pod) = pod
        {
            let message = format!("Cancelling deletion of Pod {key}");
            self.context.recorder.event(pod, EventType::Normal, "TaintManagerEviction", message);
        }
    }

    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(pod) = self.pods.cache().get_key(key) else {
            self.cancel(key, None);
            return Ok(());
        };
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|s| s.node_name.as_deref()).and_then(|name| self.nodes.cache().get_key(name));
        let Some(node) = node else { return Ok(()) };
        if pod.is_deleting() {
            return Ok(());
        }
        let tolerations = spec.and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
        let Verdict::After(wait) = verdict(&evicting(&node), tolerations) else {
            self.cancel(key, Some(&pod));
            return Ok(());
        };
        let start = {
            let mut since = self.since.lock();
            let entry = since.entry(key.to_owned()).or_insert_with(|| (pod.uid().to_owned(), Instant::now()));
            if entry.0 != pod.uid() {
                *entry = (pod.uid().to_owned(), Instant::now());
            }
            entry.1
        };
        let left = wait.saturating_sub(start.elapsed());
        if !left.is_zero() {
            self.queue.add_after(key.to_owned(), left);
            return Ok(());
        }
        self.evict(&pod).await
    }

    async fn evict(&self, pod: &Pod) -> Result<(), Error> {
        let message = format!("Marking for deletion Pod {}", pod.key());
        self.context.recorder.event(pod, EventType::Normal, "TaintManagerEviction", message);
        let why = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
        disrupt(&self.context.client, pod, why, None).await?;
        let options = DeleteOptions::of(pod.uid());
        match self.context.client.delete::<Pod>(pod.namespace(), pod.name(), &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Says in a pod's status why it is going; `phase` ends it.
///
/// # Errors
/// The write failed for another reason than that the pod is gone.
pub(crate) async fn disrupt(
    client: &client::Client,
    pod: &Pod,
    (reason, message): (&str, &str),
    phase: Option<&str>,
) -> Result<(), Error> {
    let known = pods::condition(pod, "DisruptionTarget").is_some_and(|c| c.status == "True");
    if known && phase.is_none() {
        return Ok(());
    }
    let mut patch = json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": api::metav1::Time(rt::time::now()),
            "observedGeneration": pod.metadata.generation,
        }]},
    });
    if let Some(phase) = phase {
        patch["status"]["phase"] = phase.into();
    }
    match client.patch_status::<Pod>(pod.namespace(), pod.name(), &PatchKind::Strategic, &patch).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_toleration_counts() {
        let taint = |key: &str| Taint { key: key.into(), effect: "NoExecute".into(), ..Taint::default() };
        let toleration = |key: &str, seconds: Option<i64>| Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        let (a, b) = (taint("a"), taint("b"));
        let both = [&a, &b];
        assert_eq!(verdict(&[], &[]), Verdict::Stay);
        assert_eq!(verdict(&both, &[toleration("a", None)]), Verdict::After(Duration::ZERO));
        assert_eq!(verdict(&both, &[toleration("a", None), toleration("b", None)]), Verdict::Stay);
        let some = [toleration("a", Some(30)), toleration("b", Some(10))];
        assert_eq!(verdict(&both, &some), Verdict::After(Duration::from_secs(10)));
    }
}
