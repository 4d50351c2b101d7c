//! Carrying out a preemption, beside the scheduling.

use std::sync::Arc;

use api::Kind;
use api::metav1::Time;
use api::prelude::Pod;
use client::{DeleteOptions, Error, PatchKind};
use futures::future::join_all;
use informer::EventType;
use serde_json::{Value, json};

use super::select::Candidate;
use crate::handle::Handle;
use crate::pod_info::PodInfo;

/// Ends the victims in a task of its own. The preemptor is held in the queue until all calls are made.
pub(super) fn begin(handle: &Handle, preemptor: Arc<PodInfo>, candidate: Candidate) {
    let victims: Vec<Arc<PodInfo>> = candidate.victims.into_iter().filter(|v| !v.pod.is_deleting()).collect();
    if victims.is_empty() {
        return;
    }
    let (handle, node) = (handle.clone(), candidate.node);
    handle.queue.hold(&preemptor.uid);
    rt::spawn("preempt", async move {
        move_on(&handle, &preemptor, &node).await;
        let evictions = victims.iter().map(|victim| evict(&handle, &preemptor, victim, &node));
        let failed = join_all(evictions).await.into_iter().filter(Result::is_err).count();
        // When a call failed, nothing may ever wake the pod.
        handle.queue.release(&preemptor.uid, failed > 0);
    });
}

/// Pods of lower priority that were nominated for the node look for another.
async fn move_on(handle: &Handle, preemptor: &PodInfo, node: &str) {
    let mut lower = handle.nominator.on(node);
    lower.retain(|p| p.priority < preemptor.priority);
    for pod in lower {
        handle.nominator.remove(&pod.uid);
        let patch = json!({"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": Value::Null}});
        let written = patch_status(handle, &pod, &patch).await;
        if let Err(error) = written.as_ref().map_err(Error::chain) {
            tracing::warn!(pod = pod.key, error, "cannot clear the pod's nomination");
        }
        handle.queue.release(&pod.uid, true);
    }
}

async fn patch_status(handle: &Handle, pod: &PodInfo, patch: &Value) -> Result<(), Error> {
    let (namespace, name) = (pod.pod.namespace(), pod.pod.name());
    handle.client.patch_status::<Pod>(namespace, name, &PatchKind::Strategic, patch).await.map(drop)
}

/// Tells why, deletes, and says so. A victim that is gone is as good as evicted.
async fn evict(handle: &Handle, preemptor: &PodInfo, victim: &PodInfo, node: &str) -> Result<(), ()> {
    let done = async {
        let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [{
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": format!("{}: preempting to accommodate a higher priority pod", handle.profile),
            "observedGeneration": victim.pod.metadata.generation,
            "lastTransitionTime": Time(rt::time::now()),
        }]}});
        patch_status(handle, victim, &patch).await?;
        let (namespace, name) = (victim.pod.namespace(), victim.pod.name());
        handle.client.delete::<Pod>(namespace, name, &DeleteOptions::of(&victim.uid)).await
    };
    match done.await {
        Ok(()) => {
            let message = format!("Preempted by pod {} on node {node}", preemptor.uid);
            handle.recorder.event(&*victim.pod, EventType::Normal, "Preempted", message);
            Ok(())
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => {
            tracing::warn!(victim = victim.key, pod = preemptor.key, error = error.chain(), "cannot evict the victim");
            Err(())
        }
    }
}
