//! How long kubelets may keep what they read: an annotation on each node that grows with the cluster (upstream's `ttl`
//! controller).

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Node;
use client::{Error, PatchKind};
use informer::{Delta, Informer, Queue, run_workers};
use parking_lot::Mutex;
use serde_json::json;

use crate::frame::Context;

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";
/// Steps: fewest nodes, most nodes, seconds. They overlap, so that a size at an edge does not flap.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The step of a size, from the step that held before.
fn step(mut at: usize, nodes: usize) -> usize {
    while nodes > STEPS[at].1 {
        at += 1;
    }
    while nodes < STEPS[at].0 {
        at -= 1;
    }
    at
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let nodes = context.factory.informer::<Node>();
    let queue = Arc::new(Queue::new());
    let handed = queue.clone();
    let at = Arc::new(Mutex::new(0));
    let (steps, all) = (at.clone(), nodes.clone());
    nodes.add_handler(move |delta| {
        let before = *steps.lock();
        let now = step(before, all.cache().len());
        *steps.lock() = now;
        if now != before {
            all.cache().list().iter().for_each(|node| handed.add(node.name().to_owned()));
        } else if matches!(delta, Delta::Added(_)) {
            handed.add(delta.object().name().to_owned());
        }
    });
    nodes.synced().await;
    let shutdown = context.shutdown.clone();
    run_workers("ttl", queue, 1, shutdown, move |name: String| {
        let (context, nodes) = (context.clone(), nodes.clone());
        let seconds = STEPS[*at.lock()].2;
        async move { sync(&context, &nodes, &name, seconds).await }
    })
    .await;
}

async fn sync(context: &Context, nodes: &Informer<Node>, name: &str, seconds: u32) -> Result<(), Error> {
    let Some(node) = nodes.cache().get_key(name) else { return Ok(()) };
    let wanted = seconds.to_string();
    if node.annotation(ANNOTATION) == Some(&wanted) {
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": {ANNOTATION: wanted}}});
    match context.client.patch::<Node>("", name, &PatchKind::Strategic, &patch).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_overlap() {
        for (before, nodes, want) in [(0, 100, 0), (0, 101, 1), (1, 90, 1), (1, 89, 0), (0, 3000, 4), (4, 1, 0)] {
            assert_eq!(step(before, nodes), want, "{before} {nodes}");
        }
    }
}
