//! Generic ephemeral volumes: the claim that a pod's volume asks for, owned by the pod.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{PersistentVolumeClaim, Pod};
use api::metav1::ObjectMeta;
use client::Error;
use informer::{Delta, EventType, Informer, Queue, run_workers};

use crate::frame::Context;
use crate::owner::controller_reference;

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let (pods, claims) = (context.factory.informer::<Pod>(), context.factory.informer::<PersistentVolumeClaim>());
    let queue = Arc::new(Queue::new());
    let (of_pod, of_claim, all) = (queue.clone(), queue.clone(), pods.clone());
    let asks = |pod: &Pod| pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).any(|v| v.ephemeral.is_some());
    pods.add_handler(move |delta| {
        if let Delta::Added(pod) = delta
            && !pod.is_deleting()
            && asks(pod)
        {
            of_pod.add(pod.key());
        }
    });
    claims.add_handler(move |delta| {
        // A claim that is gone while its pod is not is made again.
        if let Delta::Deleted(claim) = delta
            && let Some(owner) = claim.controller_ref().filter(|r| r.kind == "Pod")
            && all.cache().get(claim.namespace(), &owner.name).is_some()
        {
            of_claim.add(format!("{}/{}", claim.namespace(), owner.name));
        }
    });
    pods.synced().await;
    claims.synced().await;
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    run_workers("ephemeral volume", queue, workers, shutdown, move |key: String| {
        let (context, pods, claims) = (context.clone(), pods.clone(), claims.clone());
        async move { sync(&context, &pods, &claims, &key).await }
    })
    .await;
}

async fn sync(
    context: &Context,
    pods: &Informer<Pod>,
    claims: &Informer<PersistentVolumeClaim>,
    key: &str,
) -> Result<(), Error> {
    let Some(pod) = pods.cache().get_key(key).filter(|p| !p.is_deleting()) else { return Ok(()) };
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let Some(template) = volume.ephemeral.as_ref().and_then(|e| e.volume_claim_template.as_ref()) else { continue };
        let name = format!("{}-{}", pod.name(), volume.name);
        if let Some(found) = claims.cache().get(pod.namespace(), &name) {
            if found.controller_ref().is_none_or(|r| r.uid != pod.uid()) {
                let message =
                    format!("PVC {}/{name} was not created for pod {} (pod is not owner)", pod.namespace(), pod.key());
                return Err(Error::Request(message));
            }
            continue;
        }
        let meta = template.metadata.clone().unwrap_or_default();
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(pod.namespace().to_owned()),
                labels: meta.labels,
                annotations: meta.annotations,
                owner_references: Some(vec![controller_reference(&*pod)]),
                ..ObjectMeta::default()
            },
            spec: Some(template.spec.clone()),
            status: None,
        };
        match context.client.create(&claim).await {
            Err(error) if !error.is_already_exists() => {
                let message = format!("ephemeral volume controller failed to create PVC: {}", error.chain());
                context.recorder.event(&*pod, EventType::Warning, "FailedBinding", message);
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}
