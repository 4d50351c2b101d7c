//! The built-in provisioner: a directory on the node that the scheduler chose, as Rancher's local-path provisioner.
//!
//! The directory is made and removed by a short-lived pod on the node, since nobody else may reach into a node's files.
//! Sizes are not enforced; a directory has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::storage::v1::StorageClass;
use client::{Client, DeleteOptions, Error, PatchKind};
use informer::{Delta, EventType, Informer, Queue, Scope, run_workers};
use serde_json::{Value, json};

use crate::frame::{Context, LocalPath};
use crate::pods::phase;

/// The provisioner's name in storage classes.
const NAME: &str = "corten.local/local-path";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const HOSTNAME: &str = "kubernetes.io/hostname";
const NAMESPACE: &str = "kube-system";
/// Label of helper pods; its value is the volume.
const HELPER: &str = "corten.local/volume-helper";
/// Where helpers see the node's directory of volumes.
const MOUNT: &str = "/volumes";

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Claim(String),
    Volume(String),
}

struct Controller {
    context: Context,
    options: LocalPath,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    nodes: Informer<Node>,
    helpers: Informer<Pod>,
}

fn provisioner(claim: &PersistentVolumeClaim) -> bool {
    claim.annotation(PROVISIONER) == Some(NAME)
}

fn made_here(volume: &PersistentVolume) -> bool {
    volume.annotation(PROVISIONED_BY) == Some(NAME)
}

fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid())
}

/// What a claim asks for that a directory cannot be.
fn impossible(claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let spec = claim.spec.as_ref()?;
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("a directory is no block device: volumeMode Block is not supported");
    }
    let modes = spec.access_modes.iter().flatten();
    let shared = modes.into_iter().any(|m| m != "ReadWriteOnce" && m != "ReadWriteOncePod");
    if shared {
        return Some("only ReadWriteOnce and ReadWriteOncePod access modes are supported");
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("a directory cannot be made from another source");
    }
    spec.selector.is_some().then_some("claim selectors are not supported")
}

/// The volume of a claim on a node.
fn volume(claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node, base: &str) -> Value {
    let spec = claim.spec.clone().unwrap_or_default();
    let size = spec.resources.and_then(|r| r.requests).and_then(|r| r.get("storage").cloned()).unwrap_or_default();
    let name = volume_name(claim);
    let mut reference = serde_json::to_value(informer::reference(claim)).unwrap_or_default();
    reference["apiVersion"] = "v1".into();
    let host = node.label(HOSTNAME).unwrap_or(node.name());
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: NAME}},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": spec.access_modes.unwrap_or_default(),
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.name(),
            "mountOptions": class.mount_options,
            "hostPath": {"path": format!("{base}/{name}"), "type": "DirectoryOrCreate"},
            "claimRef": reference,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [host]}]},
            ]}},
        },
    })
}

/// A pod that makes or removes a volume's directory on a node.
fn helper(action: &str, volume: &str, node: &str, base: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("helper-{action}-{volume}"), "namespace": NAMESPACE, "labels": {HELPER: volume},
        },
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "automountServiceAccountToken": false,
            "enableServiceLinks": false, "terminationGracePeriodSeconds": 0, "hostNetwork": true,
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "system-node-critical",
            "volumes": [{"name": "volumes", "hostPath": {"path": base, "type": "DirectoryOrCreate"}}],
            "containers": [{
                "name": "helper", "image": image, "imagePullPolicy": "IfNotPresent",
                "args": ["volume-helper", action, format!("{MOUNT}/{volume}")],
                "volumeMounts": [{"name": "volumes", "mountPath": MOUNT}],
            }],
        },
    })
}

/// Makes the storage class, as the default; what an administrator changed later stays.
///
/// # Errors
/// The API server does not take it.
pub async fn ensure_storage_class(client: &Client, name: &str) -> Result<(), Error> {
    let tree = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": name, "annotations": {DEFAULT: "true"}},
        "provisioner": NAME, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer",
    });
    let class: StorageClass = api::from_value(tree).map_err(|e| Error::Decode(e.source))?;
    match client.create(&class).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

/// Runs the controller; without a directory there is nothing it could provision.
pub(crate) async fn run(context: Context) {
    let Some(options) = context.options.local_path.clone() else {
        context.shutdown.cancelled().await;
        return;
    };
    let factory = context.factory.clone();
    let helper_scope = Scope { namespace: NAMESPACE.into(), label_selector: HELPER.into(), ..Scope::default() };
    let controller = Arc::new(Controller {
        options,
        claims: factory.informer(),
        volumes: factory.informer(),
        classes: factory.informer(),
        nodes: factory.informer(),
        helpers: factory.scoped(helper_scope),
        context,
    });
    let queue = Arc::new(Queue::new());
    controller.watch(&queue);
    controller.claims.synced().await;
    controller.volumes.synced().await;
    controller.classes.synced().await;
    controller.nodes.synced().await;
    controller.helpers.synced().await;
    let shutdown = controller.context.shutdown.clone();
    run_workers("local path provisioner", queue, 2, shutdown, move |key: Key| {
        let controller = controller.clone();
        async move {
            match key {
                Key::Claim(key) => controller.sync_claim(&key).await,
                Key::Volume(name) => controller.sync_volume(&name).await,
            }
        }
    })
    .await;
}

impl Controller {
    fn watch(&self, queue: &Arc<Queue<Key>>) {
        let handed = queue.clone();
        self.claims.add_handler(move |delta| {
            let claim = delta.object();
            if !matches!(delta, Delta::Deleted(_)) && provisioner(claim) {
                handed.add(Key::Claim(claim.key()));
            }
        });
        let handed = queue.clone();
        self.volumes.add_handler(move |delta| {
            let volume = delta.object();
            if made_here(volume) {
                handed.add(Key::Volume(volume.name().to_owned()));
            }
        });
        let (handed, claims) = (queue.clone(), self.claims.clone());
        self.helpers.add_handler(move |delta| {
            let Some(volume) = delta.object().label(HELPER) else { return };
            handed.add(Key::Volume(volume.to_owned()));
            for claim in claims.cache().list().iter().filter(|c| provisioner(c) && volume_name(c) == volume) {
                handed.add(Key::Claim(claim.key()));
            }
        });
    }

    fn base(&self, node: &str) -> String {
        self.options.directory.replace("{node}", node)
    }

    /// Whether the helper has done its work; it is made first, and deleted afterwards.
    async fn helped(&self, action: &str, volume: &str, node: &str) -> Result<bool, Error> {
        let name = format!("helper-{action}-{volume}");
        let client = &self.context.client;
        let Some(pod) = self.helpers.cache().get(NAMESPACE, &name) else {
            let tree = helper(action, volume, node, &self.base(node), &self.options.image);
            let pod: Pod = api::from_value(tree).map_err(|e| Error::Decode(e.source))?;
            return match client.create(&pod).await {
                Err(error) if !error.is_already_exists() => Err(error),
                _ => Ok(false),
            };
        };
        match phase(&pod) {
            "Succeeded" => Ok(true),
            "Failed" => {
                self.clean(action, volume).await?;
                Err(Error::Request(format!("the helper pod {name} failed")))
            }
            _ => Ok(false),
        }
    }

    /// Deletes a helper. Only when its work shows in the cache: it would be made again otherwise.
    async fn clean(&self, action: &str, volume: &str) -> Result<(), Error> {
        let name = format!("helper-{action}-{volume}");
        let Some(pod) = self.helpers.cache().get(NAMESPACE, &name).filter(|p| !p.is_deleting()) else { return Ok(()) };
        match self.context.client.delete::<Pod>(NAMESPACE, &name, &DeleteOptions::now(pod.uid())).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    async fn sync_claim(&self, key: &str) -> Result<(), Error> {
        let Some(claim) = self.claims.cache().get_key(key).filter(|c| !c.is_deleting()) else { return Ok(()) };
        let bound = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).is_some_and(|n| !n.is_empty());
        let name = volume_name(&claim);
        if bound || !provisioner(&claim) || self.volumes.cache().get_key(&name).is_some() {
            return Ok(());
        }
        let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
        let Some(class) = self.classes.cache().get_key(class).filter(|c| c.provisioner == NAME) else {
            return Ok(());
        };
        let fail = |why: &str| {
            let message = format!("failed to provision volume with StorageClass {:?}: {why}", class.name());
            self.context.recorder.event(&*claim, EventType::Warning, "ProvisioningFailed", message);
        };
        if let Some(why) = impossible(&claim) {
            fail(why);
            return Ok(());
        }
        let Some(node) = claim.annotation(SELECTED_NODE) else {
            fail("no node was chosen: the class must have volumeBindingMode WaitForFirstConsumer");
            return Ok(());
        };
        let Some(node) = self.nodes.cache().get_key(node) else {
            return self.reschedule(&claim).await;
        };
        let message = format!("External provisioner is provisioning volume for claim {:?}", claim.key());
        self.context.recorder.event(&*claim, EventType::Normal, "Provisioning", message);
        if !self.helped("make", &name, node.name()).await.inspect_err(|e| fail(&e.chain()))? {
            return Ok(());
        }
        let tree = volume(&claim, &class, &node, &self.base(node.name()));
        let made: PersistentVolume = api::from_value(tree).map_err(|e| Error::Decode(e.source))?;
        match self.context.client.create(&made).await {
            Err(error) if error.is_already_exists() => return Ok(()),
            Err(error) => {
                fail(&error.chain());
                return Err(error);
            }
            Ok(_) => {}
        }
        let message = format!("Successfully provisioned volume {name}");
        self.context.recorder.event(&*claim, EventType::Normal, "ProvisioningSucceeded", message);
        Ok(())
    }

    /// The chosen node is gone: the scheduler is to choose again.
    async fn reschedule(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let patch = json!({"metadata": {"annotations": {SELECTED_NODE: null}}});
        let client = &self.context.client;
        let done =
            client.patch::<PersistentVolumeClaim>(claim.namespace(), claim.name(), &PatchKind::Merge, &patch).await;
        done.map(drop)
    }

    /// Removes the directory of a volume that was let go and is to be deleted, then the volume.
    async fn sync_volume(&self, name: &str) -> Result<(), Error> {
        let Some(volume) = self.volumes.cache().get_key(name) else { return self.clean("remove", name).await };
        if made_here(&volume) {
            self.clean("make", name).await?;
        }
        let spec = volume.spec.clone().unwrap_or_default();
        let released = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Released");
        let delete = spec.persistent_volume_reclaim_policy.as_deref() == Some("Delete");
        if !made_here(&volume) || !released || !delete {
            return Ok(());
        }
        // A node that is gone has taken the directory along.
        if let Some(node) = self.node_of(&volume)
            && !self.helped("remove", name, &node).await.inspect_err(|error| {
                let message = error.chain();
                self.context.recorder.event(&*volume, EventType::Warning, "VolumeFailedDelete", message);
            })?
        {
            return Ok(());
        }
        let options = DeleteOptions::of(volume.uid());
        match self.context.client.delete::<PersistentVolume>("", name, &options).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn node_of(&self, volume: &PersistentVolume) -> Option<String> {
        let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
        let expressions = affinity.node_selector_terms.iter().flat_map(|t| t.match_expressions.iter().flatten());
        let hosts: BTreeMap<String, String> = (self.nodes.cache().list().iter())
            .map(|node| (node.label(HOSTNAME).unwrap_or(node.name()).to_owned(), node.name().to_owned()))
            .collect();
        let values = expressions.filter(|e| e.key == HOSTNAME).flat_map(|e| e.values.iter().flatten());
        values.into_iter().find_map(|value| hosts.get(value).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(spec: Value) -> PersistentVolumeClaim {
        let mut tree = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c", "namespace": "n", "uid": "1234"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            tree["spec"][key] = value.clone();
        }
        api::from_value(tree).unwrap()
    }

    #[test]
    fn what_a_directory_cannot_be() {
        for (spec, possible) in [
            (json!({}), true),
            (json!({"volumeMode": "Block"}), false),
            (json!({"accessModes": ["ReadWriteMany"]}), false),
            (json!({"accessModes": ["ReadWriteOncePod"]}), true),
            (json!({"selector": {}}), false),
        ] {
            assert_eq!(impossible(&claim(spec.clone())).is_none(), possible, "{spec}");
        }
    }

    #[test]
    fn a_volume_stays_on_its_node() {
        let class: StorageClass = api::from_value(json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local-path"},
            "provisioner": NAME, "reclaimPolicy": "Retain",
        }))
        .unwrap();
        let node: Node = api::from_value(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "labels": {HOSTNAME: "host-a"}},
        }))
        .unwrap();
        let tree = volume(&claim(json!({})), &class, &node, "/data/a");
        assert_eq!(tree["spec"]["hostPath"]["path"], "/data/a/pvc-1234");
        assert_eq!(tree["spec"]["claimRef"]["uid"], "1234");
        assert_eq!(tree["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        let volume: PersistentVolume = api::from_value(tree).unwrap();
        assert!(made_here(&volume));
    }
}
