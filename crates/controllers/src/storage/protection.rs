//! Protection of claims and volumes in use: their finalizer goes when nothing uses them any more.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use client::{Error, ListParams};
use informer::{Delta, Informer, Queue, run_workers};

use crate::frame::Context;
use crate::pods;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const BY_CLAIM: &str = "claim";

/// The claims that a pod uses, as `namespace/name`.
pub(crate) fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    let name = |volume: &api::k8s::core::v1::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.name(), volume.name)),
        (None, None) => None,
    };
    volumes.iter().filter_map(name).map(|name| format!("{}/{name}", pod.namespace())).collect()
}

fn has<T: Kind>(object: &T, finalizer: &str) -> bool {
    object.metadata().finalizers.iter().flatten().any(|f| f == finalizer)
}

/// Writes the object with or without the finalizer.
async fn write<T: Kind>(context: &Context, object: &T, finalizer: &str, wanted: bool) -> Result<(), Error> {
    let mut changed = object.clone();
    let finalizers = changed.metadata_mut().finalizers.get_or_insert_default();
    finalizers.retain(|f| f != finalizer);
    if wanted {
        finalizers.push(finalizer.to_owned());
    }
    match context.client.update(&changed).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Runs the protection of claims.
pub(crate) async fn run_claims(context: Context) {
    let (claims, pods) = (context.factory.informer::<PersistentVolumeClaim>(), context.factory.informer::<Pod>());
    pods.add_index(BY_CLAIM, claims_of);
    let queue = Arc::new(Queue::new());
    let (of_claim, of_pod) = (queue.clone(), queue.clone());
    claims.add_handler(move |delta| {
        let claim = delta.object();
        if claim.is_deleting() || !has(&**claim, CLAIM_FINALIZER) {
            of_claim.add(claim.key());
        }
    });
    pods.add_handler(move |delta| {
        let gone = matches!(delta, Delta::Deleted(_)) || pods::is_terminal(delta.object());
        if gone {
            claims_of(delta.object()).into_iter().for_each(|key| of_pod.add(key));
        }
    });
    claims.synced().await;
    pods.synced().await;
    let shutdown = context.shutdown.clone();
    run_workers("pvc protection", queue, 2, shutdown, move |key: String| {
        let (context, claims, pods) = (context.clone(), claims.clone(), pods.clone());
        async move { sync_claim(&context, &claims, &pods, &key).await }
    })
    .await;
}

fn uses(pod: &Pod, key: &str) -> bool {
    // A pod without a node has not touched the claim yet.
    let placed = pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).is_some_and(|n| !n.is_empty());
    placed && !pods::is_terminal(pod) && claims_of(pod).iter().any(|claim| claim == key)
}

async fn sync_claim(
    context: &Context,
    claims: &Informer<PersistentVolumeClaim>,
    pods: &Informer<Pod>,
    key: &str,
) -> Result<(), Error> {
    let Some(claim) = claims.cache().get_key(key) else { return Ok(()) };
    let protected = has(&*claim, CLAIM_FINALIZER);
    if !claim.is_deleting() {
        return if protected { Ok(()) } else { write(context, &*claim, CLAIM_FINALIZER, true).await };
    }
    if !protected || pods.cache().by_index(BY_CLAIM, key).iter().any(|pod| uses(pod, key)) {
        return Ok(());
    }
    // The cache may be behind, and a volume lost is lost for good.
    let live = context.client.list::<Pod>(claim.namespace(), &ListParams::default()).await?;
    if live.items.iter().any(|pod| uses(pod, key)) {
        return Ok(());
    }
    write(context, &*claim, CLAIM_FINALIZER, false).await
}

/// Runs the protection of volumes.
pub(crate) async fn run_volumes(context: Context) {
    let volumes = context.factory.informer::<PersistentVolume>();
    let queue = Arc::new(Queue::new());
    let handed = queue.clone();
    volumes.add_handler(move |delta| {
        let volume = delta.object();
        if volume.is_deleting() || !has(&**volume, VOLUME_FINALIZER) {
            handed.add(volume.name().to_owned());
        }
    });
    volumes.synced().await;
    let shutdown = context.shutdown.clone();
    run_workers("pv protection", queue, 2, shutdown, move |name: String| {
        let (context, volumes) = (context.clone(), volumes.clone());
        async move {
            let Some(volume) = volumes.cache().get_key(&name) else { return Ok(()) };
            let (protected, going) = (has(&*volume, VOLUME_FINALIZER), volume.is_deleting());
            let bound = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
            if going && protected && !bound {
                return write(&context, &*volume, VOLUME_FINALIZER, false).await;
            }
            if !going && !protected {
                return write(&context, &*volume, VOLUME_FINALIZER, true).await;
            }
            Ok(())
        }
    })
    .await;
}
