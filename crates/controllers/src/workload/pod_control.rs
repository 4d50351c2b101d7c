//! Creating and deleting pods for an owner.

use std::cmp::Reverse;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Pod, PodTemplateSpec};
use api::metav1::ObjectMeta;
use client::{DeleteOptions, Error};
use futures::future::join_all;
use informer::{EventType, Recorder};
use rt::HashMap;

use crate::owner::controller_reference;
use crate::pods;
use crate::workload::writes::{Writes, is_unclear};

/// The pod that a template makes for an owner.
pub(crate) fn pod_from_template<O: Kind>(owner: &O, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    let prefix = format!("{}-", owner.name());
    let generate_name = if meta::names::dns1123_subdomain(&meta::names::mask_trailing_dash(&prefix)).is_empty() {
        prefix
    } else {
        owner.name().to_owned()
    };
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(generate_name),
            namespace: Some(owner.namespace().to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Whether a creation failed because the namespace is going.
pub(crate) fn namespace_terminating(error: &Error) -> bool {
    let causes = error.status().and_then(|s| s.details.as_ref()).map(|d| d.causes.as_slice());
    causes.unwrap_or_default().iter().any(|c| c.reason == "NamespaceTerminating")
}

/// Makes and removes pods for one owner, with upstream's events.
pub(crate) struct PodControl<'a, O> {
    pub(crate) writes: Writes<'a>,
    pub(crate) recorder: &'a Recorder,
    pub(crate) owner: &'a O,
}

impl<O: Kind> PodControl<'_, O> {
    /// Creates a pod.
    pub(crate) async fn create(&self, pod: &Pod) -> Result<Pod, Error> {
        match self.writes.create(pod).await {
            Ok(made) => {
                let message = format!("Created pod: {}", made.name());
                self.recorder.event(self.owner, EventType::Normal, "SuccessfulCreate", message);
                Ok(made)
            }
            Err(error) => {
                if !namespace_terminating(&error) {
                    let message = format!("Error creating: {}", error.chain());
                    self.recorder.event(self.owner, EventType::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    /// Creates pods in growing batches: 1, 2, 4 ... as long as none fails, so that a quota or a broken
    /// template costs few calls. Gives how many were made, and the first failure.
    pub(crate) async fn create_slow_start(&self, pods: &[Pod]) -> (usize, Option<Error>) {
        let (mut made, mut batch) = (0, 1);
        while made < pods.len() {
            let end = (made + batch).min(pods.len());
            let tried = &pods[made..end];
            let results = join_all(tried.iter().map(|pod| self.create(pod))).await;
            let unclear = |result: &Result<Pod, Error>| result.as_ref().is_err_and(is_unclear);
            let in_doubt: Vec<&Pod> =
                tried.iter().zip(&results).filter(|(_, result)| unclear(result)).map(|(pod, _)| pod).collect();
            self.writes.ask_for_children(&in_doubt).await;
            let (ok, failed): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
            made += ok.len();
            if let Some(Err(error)) = failed.into_iter().next() {
                return (made, Some(error));
            }
            batch *= 2;
        }
        (made, None)
    }

    /// Deletes a pod; one that is gone already counts as deleted.
    pub(crate) async fn delete(&self, pod: &Pod) -> Result<(), Error> {
        let done = self.writes.delete(pod, &DeleteOptions::of(pod.uid())).await;
        match done {
            Ok(()) => {
                let message = format!("Deleted pod: {}", pod.name());
                self.recorder.event(self.owner, EventType::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                let message = format!("Error deleting: {}", error.chain());
                self.recorder.event(self.owner, EventType::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }
}

/// The pods to give up first, upstream's order: not scheduled, pending, not ready, cheap by annotation, doubled
/// up on a node, ready or made only recently, often restarted.
pub(crate) fn rank_for_deletion(mut victims: Vec<Arc<Pod>>, related: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
    let mut on_node: HashMap<String, usize> = HashMap::default();
    for pod in related.iter().filter(|p| pods::is_active(p)) {
        *on_node.entry(node(pod)).or_default() += 1;
    }
    let phase = |pod: &Pod| match pods::phase(pod) {
        "Pending" | "" => 0,
        "Running" => 2,
        _ => 1,
    };
    let cost = |pod: &Pod| {
        pod.annotation("controller.kubernetes.io/pod-deletion-cost").and_then(|c| c.parse::<i32>().ok()).unwrap_or(0)
    };
    victims.sort_by_cached_key(|pod| {
        let at = node(pod);
        let doubled = if at.is_empty() { 0 } else { on_node.get(&at).copied().unwrap_or(0) };
        let ready = pods::is_ready(pod);
        (
            !at.is_empty(),
            phase(pod),
            ready,
            cost(pod),
            Reverse(doubled),
            Reverse(pods::ready_since(pod)),
            Reverse(pods::max_restarts(pod)),
            Reverse(pod.metadata.creation_timestamp.as_ref().map(|t| t.0)),
        )
    });
    victims
}
