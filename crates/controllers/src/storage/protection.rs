//! Protection of claims and volumes in use: their finalizer goes when nothing uses them any more.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::storage::v1::VolumeAttributesClass;
use client::{Error, ListParams};
use informer::{Delta, Informer, Queue, run_workers};

use crate::frame::Context;
use crate::pods;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const CLASS_FINALIZER: &str = "kubernetes.io/vac-protection";
const BY_CLAIM: &str = "claim";
const BY_CLASS: &str = "class";

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

pub(crate) fn has<T: Kind>(object: &T, finalizer: &str) -> bool {
    object.metadata().finalizers.iter().flatten().any(|f| f == finalizer)
}

/// Writes the object with or without the finalizer.
pub(crate) async fn write<T: Kind>(context: &Context, object: &T, finalizer: &str, wanted: bool) -> Result<(), Error> {
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

/// The classes that a claim asks for or has.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<String> {
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.clone());
    let status = claim.status.as_ref();
    let current = status.and_then(|s| s.current_volume_attributes_class_name.clone());
    let target = status
        .and_then(|s| s.modify_volume_status.as_ref())
        .and_then(|modify| modify.target_volume_attributes_class_name.clone());
    [wanted, current, target].into_iter().flatten().collect()
}

fn class_of_volume(volume: &PersistentVolume) -> Vec<String> {
    volume.spec.as_ref().and_then(|s| s.volume_attributes_class_name.clone()).into_iter().collect()
}

/// Runs the protection of volume attributes classes: a class stays while a claim or a volume names it.
pub(crate) async fn run_classes(context: Context) {
    let classes = context.factory.informer::<VolumeAttributesClass>();
    let (claims, volumes) =
        (context.factory.informer::<PersistentVolumeClaim>(), context.factory.informer::<PersistentVolume>());
    claims.add_index(BY_CLASS, classes_of_claim);
    volumes.add_index(BY_CLASS, class_of_volume);
    let queue = Arc::new(Queue::new());
    let (of_class, of_claim, of_volume) = (queue.clone(), queue.clone(), queue.clone());
    classes.add_handler(move |delta| {
        let class = delta.object();
        if class.is_deleting() || !has(&**class, CLASS_FINALIZER) {
            of_class.add(class.name().to_owned());
        }
    });
    // A class may have become free when what named it changes or goes.
    claims.add_handler(move |delta| {
        if let Delta::Updated { old, .. } | Delta::Deleted(old) = delta {
            classes_of_claim(old).into_iter().for_each(|name| of_claim.add(name));
        }
    });
    volumes.add_handler(move |delta| {
        if let Delta::Updated { old, .. } | Delta::Deleted(old) = delta {
            class_of_volume(old).into_iter().for_each(|name| of_volume.add(name));
        }
    });
    classes.synced().await;
    claims.synced().await;
    volumes.synced().await;
    let shutdown = context.shutdown.clone();
    run_workers("vac protection", queue, 2, shutdown, move |name: String| {
        let (context, classes, claims, volumes) = (context.clone(), classes.clone(), claims.clone(), volumes.clone());
        async move {
            let Some(class) = classes.cache().get_key(&name) else { return Ok(()) };
            let (protected, going) = (has(&*class, CLASS_FINALIZER), class.is_deleting());
            let used = || {
                !claims.cache().by_index(BY_CLASS, &name).is_empty()
                    || !volumes.cache().by_index(BY_CLASS, &name).is_empty()
            };
            match (going, protected) {
                (true, true) if !used() => write(&context, &*class, CLASS_FINALIZER, false).await,
                (false, false) => write(&context, &*class, CLASS_FINALIZER, true).await,
                _ => Ok(()),
            }
        }
    })
    .await;
}
