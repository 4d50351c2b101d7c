//! Attaches and detaches CSI volumes: a `VolumeAttachment` for each volume that pods of a node use, and the node's list
//! of attached volumes, for which kubelets wait. Drivers that need no attaching are left alone.
//!
//! A volume is detached only when no pod of the node uses it and the kubelet does not list it as in use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use api::k8s::storage::v1::{CSIDriver, VolumeAttachment};
use client::{DeleteOptions, Error, PatchKind};
use informer::{Delta, EventType, Informer, Queue, run_workers};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::frame::Context;
use crate::pods::is_terminal;

const BY_NODE: &str = "node";
const BY_CLAIM: &str = "claim of pod";
/// Volumes of a node that does not answer are detached after this (upstream's `maxWaitForUnmountDuration`).
const LOST_NODE: Duration = Duration::from_secs(360);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

struct Controller {
    context: Context,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    drivers: Informer<CSIDriver>,
    attachments: Informer<VolumeAttachment>,
    queue: Arc<Queue<String>>,
}

/// Upstream's name of an attachment.
fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    let hash = Sha256::digest(format!("{handle}{driver}{node}").as_bytes());
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("csi-{hex}")
}

/// The name by which kubelets know an attachable volume.
fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// What a node's pods want attached: volume, driver and handle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    volume: String,
    driver: String,
    handle: String,
}

/// What is to be done for a node.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    create: Vec<Wanted>,
    /// Names of attachments.
    delete: Vec<String>,
    /// The node's list of attached volumes.
    attached: Vec<String>,
    /// A volume is still in use by a kubelet: look again.
    wait: bool,
}

/// An attachment of the node: its name, volume (by unique name) and whether it stands.
type Existing = BTreeMap<String, (String, bool)>;

fn plan(node: &str, wanted: &BTreeSet<Wanted>, existing: &Existing, in_use: &[String], lost: bool) -> Plan {
    let mut plan = Plan::default();
    let names: BTreeMap<String, &Wanted> =
        wanted.iter().map(|w| (attachment_name(&w.handle, &w.driver, node), w)).collect();
    for (name, want) in &names {
        match existing.get(name) {
            None => plan.create.push((*want).clone()),
            Some((unique, true)) => plan.attached.push(unique.clone()),
            Some(_) => {}
        }
    }
    for (name, (unique, attached)) in existing.iter().filter(|(name, _)| !names.contains_key(*name)) {
        if in_use.contains(unique) && !lost {
            plan.wait = true;
            if *attached {
                plan.attached.push(unique.clone());
            }
        } else {
            plan.delete.push(name.clone());
        }
    }
    plan.attached.sort_unstable();
    plan
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}

/// The claims of a pod, those of ephemeral volumes among them.
fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let name = |v: &api::k8s::core::v1::Volume| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.name(), v.name)),
        _ => None,
    };
    volumes.filter_map(name).map(|name| format!("{}/{name}", pod.namespace())).collect()
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let queue = Arc::new(Queue::new());
    let controller = Arc::new(Controller {
        nodes: factory.informer(),
        pods: factory.informer(),
        claims: factory.informer(),
        volumes: factory.informer(),
        drivers: factory.informer(),
        attachments: factory.informer(),
        queue: queue.clone(),
        context,
    });
    controller
        .pods
        .add_index(BY_NODE, |pod| Some(node_of(pod).to_owned()).filter(|n| !n.is_empty()).into_iter().collect());
    controller.pods.add_index(BY_CLAIM, claims_of);
    controller.attachments.add_index(BY_NODE, |attachment| vec![attachment.spec.node_name.clone()]);
    controller.watch();
    controller.nodes.synced().await;
    controller.pods.synced().await;
    controller.claims.synced().await;
    controller.volumes.synced().await;
    controller.drivers.synced().await;
    controller.attachments.synced().await;
    let shutdown = controller.context.shutdown.clone();
    run_workers("attach detach", queue, 5, shutdown, move |node: String| {
        let controller = controller.clone();
        async move { controller.sync(&node).await }
    })
    .await;
}

impl Controller {
    fn watch(self: &Arc<Self>) {
        let queue = self.queue.clone();
        self.pods.add_handler(move |delta| {
            let pod = delta.object();
            if !node_of(pod).is_empty() && !claims_of(pod).is_empty() {
                queue.add(node_of(pod).to_owned());
            }
        });
        let (queue, known) = (self.queue.clone(), Arc::downgrade(self));
        self.nodes.add_handler(move |delta| {
            let in_use = |n: &Node| n.status.as_ref().and_then(|s| s.volumes_in_use.clone());
            let changed = match delta {
                Delta::Updated { old, new } => in_use(old) != in_use(new),
                _ => true,
            };
            let name = delta.object().name();
            let attachments =
                known.upgrade().is_some_and(|c| !c.attachments.cache().by_index(BY_NODE, name).is_empty());
            if changed && attachments {
                queue.add(name.to_owned());
            }
        });
        let queue = self.queue.clone();
        self.attachments.add_handler(move |delta| queue.add(delta.object().spec.node_name.clone()));
        let known = Arc::downgrade(self);
        self.claims.add_handler(move |delta| {
            let Some(controller) = known.upgrade() else { return };
            for pod in controller.pods.cache().by_index(BY_CLAIM, &delta.object().key()) {
                if !node_of(&pod).is_empty() {
                    controller.queue.add(node_of(&pod).to_owned());
                }
            }
        });
    }

    /// The volume behind a claim, when it must be attached.
    fn wanted(&self, claim: &str) -> Option<Wanted> {
        let claim = self.claims.cache().get_key(claim)?;
        let volume = self.volumes.cache().get_key(claim.spec.as_ref()?.volume_name.as_deref()?)?;
        let csi = volume.spec.as_ref()?.csi.clone()?;
        // A driver that is not known counts as one that attaches, as upstream's does.
        let driver = self.drivers.cache().get_key(&csi.driver);
        let attaches = driver.and_then(|d| d.spec.attach_required).unwrap_or(true);
        attaches.then(|| Wanted { volume: volume.name().to_owned(), driver: csi.driver, handle: csi.volume_handle })
    }

    fn existing(&self, node: &str) -> Existing {
        let of_node = self.attachments.cache().by_index(BY_NODE, node);
        let entry = |a: &Arc<VolumeAttachment>| {
            let volume = a.spec.source.persistent_volume_name.as_deref()?;
            let csi = self.volumes.cache().get_key(volume)?.spec.as_ref()?.csi.clone()?;
            let attached = a.status.as_ref().is_some_and(|s| s.attached) && !a.is_deleting();
            Some((a.name().to_owned(), (unique_name(&csi.driver, &csi.volume_handle), attached)))
        };
        of_node.iter().filter_map(entry).collect()
    }

    async fn sync(&self, name: &str) -> Result<(), Error> {
        let pods = self.pods.cache().by_index(BY_NODE, name);
        let wanted: BTreeSet<Wanted> = pods
            .iter()
            .filter(|pod| !is_terminal(pod))
            .flat_map(|pod| claims_of(pod))
            .filter_map(|claim| self.wanted(&claim))
            .collect();
        let existing = self.existing(name);
        if wanted.is_empty() && existing.is_empty() {
            return Ok(());
        }
        let node = self.nodes.cache().get_key(name);
        let in_use = node.as_ref().and_then(|n| n.status.as_ref()?.volumes_in_use.clone()).unwrap_or_default();
        let plan = plan(name, &wanted, &existing, &in_use, node.as_deref().is_none_or(is_lost));
        let client = &self.context.client;
        if let Some(node) = &node {
            // A volume leaves the list before it is detached, so that no kubelet mounts it meanwhile.
            self.write_attached(node, &plan.attached).await?;
        }
        for attachment in &plan.delete {
            match client.delete::<VolumeAttachment>("", attachment, &DeleteOptions::default()).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        for want in plan.create {
            self.attach(name, &pods, &want).await?;
        }
        if plan.wait {
            self.queue.add_after(name.to_owned(), LOST_NODE);
        }
        Ok(())
    }

    async fn attach(&self, node: &str, pods: &[Arc<Pod>], want: &Wanted) -> Result<(), Error> {
        let elsewhere = self.attachments.cache().list();
        let single = |mode: &str| {
            let volume = self.volumes.cache().get_key(&want.volume);
            let modes = volume.and_then(|v| v.spec.as_ref()?.access_modes.clone()).unwrap_or_default();
            !modes.is_empty() && modes.iter().all(|m| m.starts_with(mode))
        };
        let other = elsewhere.iter().find(|a| {
            a.spec.source.persistent_volume_name.as_deref() == Some(&want.volume) && a.spec.node_name != node
        });
        if let Some(other) = other.filter(|_| single("ReadWriteOnce")) {
            let of_other = self.pods.cache().by_index(BY_NODE, &other.spec.node_name);
            let users: Vec<&Arc<Pod>> =
                of_other.iter().filter(|pod| !is_terminal(pod) && self.uses(pod, want)).collect();
            for pod in pods.iter().filter(|pod| self.uses(pod, want)) {
                let message = format!("Multi-Attach error for volume {:?} {}", want.volume, holders(pod, &users));
                self.context.recorder.event(&**pod, EventType::Warning, "FailedAttachVolume", message);
            }
            self.queue.add_after(node.to_owned(), Duration::from_secs(10));
            tracing::debug!(volume = want.volume, node, other = other.spec.node_name, "volume is attached elsewhere");
            return Ok(());
        }
        let tree: Value = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment",
            "metadata": {"name": attachment_name(&want.handle, &want.driver, node)},
            "spec": {
                "attacher": want.driver, "nodeName": node, "source": {"persistentVolumeName": want.volume},
            },
        });
        let attachment: VolumeAttachment = api::from_value(tree).map_err(|e| Error::Decode(e.source))?;
        match self.context.client.create(&attachment).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }

    fn uses(&self, pod: &Pod, want: &Wanted) -> bool {
        claims_of(pod).iter().filter_map(|claim| self.wanted(claim)).any(|wanted| wanted == *want)
    }

    async fn write_attached(&self, node: &Node, attached: &[String]) -> Result<(), Error> {
        let before = node.status.as_ref().and_then(|s| s.volumes_attached.clone()).unwrap_or_default();
        let mut names: Vec<&str> = before.iter().map(|v| v.name.as_str()).collect();
        names.sort_unstable();
        if names == attached {
            return Ok(());
        }
        let list: Vec<Value> = attached.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
        let patch = json!({"status": {"volumesAttached": list}});
        match self.context.client.patch_status::<Node>("", node.name(), &PatchKind::Merge, &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Who holds the volume that a pod waits for. Nobody is told the names of pods in other namespaces.
fn holders(pod: &Pod, users: &[&Arc<Pod>]) -> String {
    let (near, far): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) =
        users.iter().copied().partition(|user| user.namespace() == pod.namespace());
    let names: Vec<&str> = near.iter().map(|user| user.name()).collect();
    match (names.as_slice(), far.len()) {
        ([], 0) => "Volume is already exclusively attached to one node and can't be attached to another".to_owned(),
        ([], far) => format!("Volume is already used by {far} pod(s) in different namespaces"),
        (names, 0) => format!("Volume is already used by pod(s) {}", names.join(", ")),
        (names, far) => {
            let names = names.join(", ");
            format!("Volume is already used by pod(s) {names} and {far} pod(s) in different namespaces")
        }
    }
}

/// The node is gone for good, by an administrator's word or by its long silence.
fn is_lost(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    let out = taints.into_iter().any(|t| t.key == OUT_OF_SERVICE);
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let silent = conditions.into_iter().any(|c| {
        c.type_ == "Ready"
            && c.status == "Unknown"
            && c.last_transition_time.as_ref().is_some_and(|t| rt::time::since(t.0) >= LOST_NODE)
    });
    out || silent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_named_in_the_own_namespace_only() {
        let pod = |namespace: &str, name: &str| {
            let mut pod = Pod::default();
            pod.metadata.namespace = Some(namespace.to_owned());
            pod.metadata.name = Some(name.to_owned());
            Arc::new(pod)
        };
        let (waits, a, b, far) = (pod("n", "waits"), pod("n", "a"), pod("n", "b"), pod("secret", "x"));
        assert!(holders(&waits, &[]).ends_with("can't be attached to another"));
        assert_eq!(holders(&waits, &[&a, &b]), "Volume is already used by pod(s) a, b");
        let both = "Volume is already used by pod(s) a and 1 pod(s) in different namespaces";
        assert_eq!(holders(&waits, &[&a, &far]), both);
        assert_eq!(holders(&waits, &[&far]), "Volume is already used by 1 pod(s) in different namespaces");
    }

    #[test]
    fn volumes_in_use_stay_attached() {
        let want = |v: &str| Wanted { volume: v.into(), driver: "d".into(), handle: format!("h-{v}") };
        let named = |v: &str| attachment_name(&format!("h-{v}"), "d", "n");
        let unique = |v: &str| unique_name("d", &format!("h-{v}"));
        let existing: Existing = BTreeMap::from([
            (named("a"), (unique("a"), true)),
            (named("b"), (unique("b"), false)),
            (named("gone"), (unique("gone"), true)),
            (named("used"), (unique("used"), true)),
        ]);
        let wanted = BTreeSet::from([want("a"), want("b"), want("new")]);
        let found = plan("n", &wanted, &existing, &[unique("used")], false);
        assert_eq!(found.create, [want("new")]);
        assert_eq!(found.delete, [named("gone")]);
        assert_eq!(found.attached, [unique("a"), unique("used")]);
        assert!(found.wait);
        assert_eq!(plan("n", &wanted, &existing, &[unique("used")], true).delete.len(), 2, "the node is lost");
    }
}
