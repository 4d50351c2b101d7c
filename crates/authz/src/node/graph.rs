//! Which node may read which object: objects are related to nodes through pods, claims and volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meta::Object;
use meta::selector::{FieldRequirement, FieldSelector};
use parking_lot::RwLock;
use serde_json::Value;

use crate::feed::Follow;

/// A kind of object that a pod refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
    ResourceClaim,
}

/// Namespace and name.
type Key = (String, String);
/// Kind, namespace, name.
type Reference = (Kind, String, String);

struct PodEntry {
    uid: String,
    node: Arc<str>,
    ephemeral_containers: usize,
    references: BTreeSet<Reference>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<Key, PodEntry>,
    /// The pods that refer to an object, with their node.
    users: BTreeMap<Reference, BTreeMap<Key, Arc<str>>>,
    /// Volume → its claim and the secrets that mounting it needs.
    volumes: BTreeMap<String, (Key, Vec<Key>)>,
    /// Secret → volumes that need it.
    volume_secrets: BTreeMap<Key, BTreeSet<String>>,
    /// Volume attachment → node.
    attachments: BTreeMap<String, String>,
    /// Resource slice → node.
    slices: BTreeMap<String, String>,
}

/// The relations, kept up to date from watches.
#[derive(Default)]
pub(crate) struct Graph(RwLock<State>);

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(value, |v, step| v.get(*step)).and_then(Value::as_str).unwrap_or("")
}

/// All objects of the pod's namespace that its spec names.
fn references(pod: &Object) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    // A node makes mirror pods itself: they must not give it access to anything.
    if pod.annotation("kubernetes.io/config.mirror").is_some() {
        return found;
    }
    let namespace = pod.namespace().to_owned();
    let mut add = |kind: Kind, name: &str| {
        if !name.is_empty() {
            found.insert((kind, namespace.clone(), name.to_owned()));
        }
    };
    let empty = Value::Null;
    let spec = pod.body.get("spec").unwrap_or(&empty);
    add(Kind::ServiceAccount, text(spec, &["serviceAccountName"]));
    list(spec, "imagePullSecrets").for_each(|s| add(Kind::Secret, text(s, &["name"])));
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list(spec, field) {
            for source in list(container, "envFrom") {
                add(Kind::Secret, text(source, &["secretRef", "name"]));
                add(Kind::ConfigMap, text(source, &["configMapRef", "name"]));
            }
            for variable in list(container, "env") {
                add(Kind::Secret, text(variable, &["valueFrom", "secretKeyRef", "name"]));
                add(Kind::ConfigMap, text(variable, &["valueFrom", "configMapKeyRef", "name"]));
            }
        }
    }
    for volume in list(spec, "volumes") {
        volume_references(pod, volume, &mut add);
    }
    for claim in list(spec, "resourceClaims") {
        add(Kind::ResourceClaim, text(claim, &["resourceClaimName"]));
    }
    if let Some(status) = pod.body.get("status") {
        for claim in list(status, "resourceClaimStatuses") {
            add(Kind::ResourceClaim, text(claim, &["resourceClaimName"]));
        }
        add(Kind::ResourceClaim, text(status, &["extendedResourceClaimStatus", "resourceClaimName"]));
    }
    found
}

fn volume_references(pod: &Object, volume: &Value, add: &mut impl FnMut(Kind, &str)) {
    add(Kind::Secret, text(volume, &["secret", "secretName"]));
    add(Kind::ConfigMap, text(volume, &["configMap", "name"]));
    add(Kind::Secret, text(volume, &["azureFile", "secretName"]));
    add(Kind::Secret, text(volume, &["csi", "nodePublishSecretRef", "name"]));
    for source in ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"] {
        add(Kind::Secret, text(volume, &[source, "secretRef", "name"]));
    }
    if let Some(projected) = volume.get("projected") {
        for source in list(projected, "sources") {
            add(Kind::Secret, text(source, &["secret", "name"]));
            add(Kind::ConfigMap, text(source, &["configMap", "name"]));
        }
    }
    add(Kind::Claim, text(volume, &["persistentVolumeClaim", "claimName"]));
    if volume.get("ephemeral").is_some_and(Value::is_object) {
        add(Kind::Claim, &format!("{}-{}", pod.name(), text(volume, &["name"])));
    }
}

impl State {
    fn remove_pod(&mut self, key: &Key) {
        let Some(entry) = self.pods.remove(key) else { return };
        for reference in entry.references {
            if let Some(users) = self.users.get_mut(&reference) {
                users.remove(key);
                if users.is_empty() {
                    self.users.remove(&reference);
                }
            }
        }
    }

    fn add_pod(&mut self, pod: &Object) {
        let key = (pod.namespace().to_owned(), pod.name().to_owned());
        let node = pod.get_str(&["spec", "nodeName"]);
        if node.is_empty() {
            return self.remove_pod(&key);
        }
        let ephemeral = pod.get(&["spec", "ephemeralContainers"]).and_then(Value::as_array).map_or(0, Vec::len);
        let claims = pod.get(&["spec", "resourceClaims"]).is_some()
            || pod.get(&["status", "extendedResourceClaimStatus"]).is_some();
        let known = self.pods.get(&key).is_some_and(|entry| {
            entry.uid == pod.uid() && *entry.node == *node && entry.ephemeral_containers == ephemeral && !claims
        });
        if known {
            return;
        }
        self.remove_pod(&key);
        let (node, references): (Arc<str>, _) = (node.into(), references(pod));
        for reference in &references {
            self.users.entry(reference.clone()).or_default().insert(key.clone(), node.clone());
        }
        let entry = PodEntry { uid: pod.uid().to_owned(), node, ephemeral_containers: ephemeral, references };
        self.pods.insert(key, entry);
    }

    fn remove_volume(&mut self, name: &str) {
        let Some((_, secrets)) = self.volumes.remove(name) else { return };
        for secret in secrets {
            if let Some(volumes) = self.volume_secrets.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.volume_secrets.remove(&secret);
                }
            }
        }
    }

    fn add_volume(&mut self, volume: &Object) {
        self.remove_volume(volume.name());
        let claim = volume.get(&["spec", "claimRef"]).cloned().unwrap_or_default();
        let claim: Key = (text(&claim, &["namespace"]).to_owned(), text(&claim, &["name"]).to_owned());
        if claim.1.is_empty() {
            return;
        }
        let mut secrets = Vec::new();
        let sources = volume.body.get("spec").and_then(Value::as_object).into_iter().flatten();
        for (_, source) in sources {
            let named = [
                "secretRef",
                "nodePublishSecretRef",
                "nodeStageSecretRef",
                "nodeExpandSecretRef",
                "controllerExpandSecretRef",
            ];
            let references =
                named.iter().map(|field| (text(source, &[field, "namespace"]), text(source, &[field, "name"])));
            let azure = (text(source, &["secretNamespace"]), text(source, &["secretName"]));
            for (namespace, name) in references.chain([azure]).filter(|(_, name)| !name.is_empty()) {
                let namespace = if namespace.is_empty() { &claim.0 } else { namespace };
                secrets.push((namespace.to_owned(), name.to_owned()));
            }
        }
        for secret in &secrets {
            self.volume_secrets.entry(secret.clone()).or_default().insert(volume.name().to_owned());
        }
        self.volumes.insert(volume.name().to_owned(), (claim, secrets));
    }

    fn store(&mut self, resource: &str, object: &Object) {
        let node = object.get_str(&["spec", "nodeName"]).to_owned();
        match resource {
            "pods" => self.add_pod(object),
            "persistentvolumes" => self.add_volume(object),
            "volumeattachments" => drop(self.attachments.insert(object.name().to_owned(), node)),
            _ => drop(self.slices.insert(object.name().to_owned(), node)),
        }
    }

    fn is_used(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let users = self.users.get(&(kind, namespace.to_owned(), name.to_owned()));
        users.is_some_and(|users| users.values().any(|n| **n == *node))
    }

    fn is_volume_used(&self, node: &str, volume: &str) -> bool {
        self.volumes.get(volume).is_some_and(|((ns, claim), _)| self.is_used(node, Kind::Claim, ns, claim))
    }
}

impl Graph {
    /// Whether a pod on the node refers to the object, directly or (secrets) through a volume.
    pub(crate) fn is_related(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let state = self.0.read();
        if state.is_used(node, kind, namespace, name) {
            return true;
        }
        let volumes = match kind {
            Kind::Secret => state.volume_secrets.get(&(namespace.to_owned(), name.to_owned())),
            _ => None,
        };
        volumes.into_iter().flatten().any(|volume| state.is_volume_used(node, volume))
    }

    /// Whether a pod on the node uses the volume.
    pub(crate) fn uses_volume(&self, node: &str, volume: &str) -> bool {
        self.0.read().is_volume_used(node, volume)
    }

    /// Whether the attachment is the node's.
    pub(crate) fn has_attachment(&self, node: &str, name: &str) -> bool {
        self.0.read().attachments.get(name).is_some_and(|n| n == node)
    }

    /// Whether the resource slice is the node's.
    pub(crate) fn has_slice(&self, node: &str, name: &str) -> bool {
        self.0.read().slices.get(name).is_some_and(|n| n == node)
    }

    /// Whether the pod is bound to the node.
    pub(crate) fn has_pod(&self, node: &str, namespace: &str, name: &str) -> bool {
        let state = self.0.read();
        state.pods.get(&(namespace.to_owned(), name.to_owned())).is_some_and(|pod| *pod.node == *node)
    }
}

impl Follow for Graph {
    fn interest(&self, resource: &'static str) -> FieldSelector {
        let mut interest = FieldSelector::default();
        if resource == "pods" {
            // A pod without a node gives nobody access: it need not be looked at.
            let (field, value) = ("spec.nodeName".to_owned(), String::new());
            interest.requirements.push(FieldRequirement { field, value, equal: false });
        }
        interest
    }

    fn replace(&self, resource: &'static str, objects: &[Arc<Object>]) {
        let mut state = self.0.write();
        match resource {
            "pods" => {
                state.pods.clear();
                state.users.clear();
            }
            "persistentvolumes" => {
                state.volumes.clear();
                state.volume_secrets.clear();
            }
            "volumeattachments" => state.attachments.clear(),
            _ => state.slices.clear(),
        }
        for object in objects {
            state.store(resource, object);
        }
    }

    fn upsert(&self, resource: &'static str, object: &Object) {
        self.0.write().store(resource, object);
    }

    fn delete(&self, resource: &'static str, object: &Object) {
        let mut state = self.0.write();
        match resource {
            "pods" => state.remove_pod(&(object.namespace().to_owned(), object.name().to_owned())),
            "persistentvolumes" => state.remove_volume(object.name()),
            "volumeattachments" => drop(state.attachments.remove(object.name())),
            _ => drop(state.slices.remove(object.name())),
        }
    }
}
