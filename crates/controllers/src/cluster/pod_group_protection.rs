//! Protection of pod groups in use (GenericWorkload): their finalizer goes when no pod that runs names them any more.
//!
//! Unlike upstream, a pod that nothing but the group keeps does not count. Such are the pods of a job that was deleted: they
//! go when the group has gone, and would wait for each other for good.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Pod;
use api::k8s::scheduling::v1alpha2::PodGroup;
use client::{Error, ListParams};
use informer::{Delta, Informer, Queue, run_workers};

use crate::frame::Context;
use crate::pods::is_terminal;
use crate::storage::protection::{has, write};

const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";
const BY_GROUP: &str = "pod group";

/// The group of a pod, as `namespace/name`.
fn group_of(pod: &Pod) -> Option<String> {
    let name = pod.spec.as_ref()?.scheduling_group.as_ref()?.pod_group_name.as_ref()?;
    Some(format!("{}/{name}", pod.namespace()))
}

/// Whether nothing but its group owns the pod.
fn is_kept_by_group(pod: &Pod) -> bool {
    let mut owners = pod.metadata.owner_references.iter().flatten().peekable();
    owners.peek().is_some()
        && owners.all(|owner| owner.kind == "PodGroup" && owner.api_version.starts_with("scheduling.k8s.io/"))
}

/// The group that a pod uses.
fn used_by(pod: &Pod) -> Option<String> {
    group_of(pod).filter(|_| !is_terminal(pod) && !is_kept_by_group(pod))
}

/// Runs the controller; without the gate there is nothing to protect.
pub(crate) async fn run(context: Context) {
    if !context.options.pod_groups {
        return;
    }
    let (groups, pods) = (context.factory.informer::<PodGroup>(), context.factory.informer::<Pod>());
    pods.add_index(BY_GROUP, |pod| used_by(pod).into_iter().collect());
    let queue = Arc::new(Queue::new());
    let (of_group, of_pod) = (queue.clone(), queue.clone());
    groups.add_handler(move |delta| {
        let group = delta.object();
        if group.is_deleting() && has(&**group, FINALIZER) {
            of_group.add(group.key());
        }
    });
    pods.add_handler(move |delta| {
        let pod = delta.object();
        if let Some(key) = group_of(pod)
            && (matches!(delta, Delta::Deleted(_)) || used_by(pod).is_none())
        {
            of_pod.add(key);
        }
    });
    groups.synced().await;
    pods.synced().await;
    let shutdown = context.shutdown.clone();
    run_workers("pod group protection", queue, 2, shutdown, move |key: String| {
        let (context, groups, pods) = (context.clone(), groups.clone(), pods.clone());
        async move { sync(&context, &groups, &pods, &key).await }
    })
    .await;
}

async fn sync(context: &Context, groups: &Informer<PodGroup>, pods: &Informer<Pod>, key: &str) -> Result<(), Error> {
    let Some(group) = groups.cache().get_key(key) else { return Ok(()) };
    if !group.is_deleting() || !has(&*group, FINALIZER) || !pods.cache().by_index(BY_GROUP, key).is_empty() {
        return Ok(());
    }
    // The cache may be behind.
    let live = context.client.list::<Pod>(group.namespace(), &ListParams::default()).await?;
    if live.items.iter().any(|pod| used_by(pod).as_deref() == Some(key)) {
        return Ok(());
    }
    write(context, &*group, FINALIZER, false).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn which_pods_use_their_group() {
        let (job, group) = (("batch/v1", "Job"), ("scheduling.k8s.io/v1alpha2", "PodGroup"));
        for (owners, phase, used) in [
            (vec![], "Running", true),
            (vec![job, group], "Running", true),
            (vec![job, group], "Succeeded", false),
            (vec![group], "Running", false),
        ] {
            let owner =
                |(version, kind): &(&str, &str)| json!({"apiVersion": version, "kind": kind, "name": "n", "uid": "u"});
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "ns", "ownerReferences": owners.iter().map(owner).collect::<Vec<_>>()},
                "spec": {"containers": [], "schedulingGroup": {"podGroupName": "g"}}, "status": {"phase": phase},
            }))
            .unwrap();
            assert_eq!(used_by(&pod), used.then(|| "ns/g".to_owned()), "{owners:?} {phase}");
        }
    }
}
