//! NodeRestriction: a kubelet writes only its own node, lease and pods, and of those only what is its business.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Attributes, Decision, groups};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meta::{GroupVersionResource, Object, Status};
use registry::Operation;
use serde_json::Value;

use crate::plugin::{Plugin, Request, core};
use crate::pod::{self, items, text};

/// The plugin.
pub struct NodeRestriction;

/// What a check answers: the cause of a refusal, or another failure.
enum Refusal {
    Cause(String),
    Status(Status),
}

impl From<&str> for Refusal {
    fn from(cause: &str) -> Self {
        Self::Cause(cause.to_owned())
    }
}

impl From<String> for Refusal {
    fn from(cause: String) -> Self {
        Self::Cause(cause)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

type Answer = Result<(), Refusal>;

fn need(holds: bool, cause: impl Into<String>) -> Answer {
    if holds { Ok(()) } else { Err(Refusal::Cause(cause.into())) }
}

fn node_of(pod: &Object) -> &str {
    pod.get_str(&["spec", "nodeName"])
}

async fn get_pod(request: &Request<'_>, name: &str) -> Result<Arc<Object>, Refusal> {
    let found = request.core("pods", request.namespace, name).await?;
    found.ok_or_else(|| Status::not_found(&core("pods").group_resource(), name).into())
}

async fn pod_itself(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    match request.operation {
        Operation::Create => mirror_pod(request, node, object).await,
        Operation::Delete => {
            let cached;
            let bound_to = match request.old {
                Some(old) => node_of(old),
                None => {
                    cached = get_pod(request, request.name).await?;
                    node_of(&cached)
                }
            };
            need(bound_to == node, format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        other => Err(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            other.as_str()
        )
        .into()),
    }
}

async fn mirror_pod(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    let Some(object) = object else { return Ok(()) };
    let mark = "kubernetes.io/config.mirror";
    need(
        pod::is_mirror(object),
        format!("pod does not have {mark:?} annotation, node {node:?} can only create mirror pods"),
    )?;
    need(node_of(object) == node, format!("node {node:?} can only create pods with spec.nodeName set to itself"))?;
    let owners = object.owner_references();
    let start = format!("node {node:?} can only create pods with");
    need(owners.len() < 2, format!("{start} a single owner reference set to itself"))?;
    let Some(owner) = owners.first().filter(|o| o.api_version == "v1" && o.kind == "Node" && o.name == node) else {
        return Err(format!("{start} an owner reference set to itself").into());
    };
    need(owner.controller == Some(true), format!("{start} a controller owner reference set to itself"))?;
    need(
        owner.block_owner_deletion != Some(true),
        format!("node {node:?} must not set blockOwnerDeletion on an owner reference"),
    )?;
    let stored = request.core("nodes", "", node).await?;
    let stored = stored.ok_or_else(|| Status::not_found(&core("nodes").group_resource(), node))?;
    need(owner.uid == stored.uid(), format!("node {node} UID mismatch: expected {} got {}", owner.uid, stored.uid()))?;
    match api_reference(pod::spec(object)) {
        Some(what) => Err(format!("node {node:?} can not create pods that reference {what}").into()),
        None => Ok(()),
    }
}

/// The first other API object that a pod refers to.
fn api_reference(spec: &Value) -> Option<&'static str> {
    if !text(spec, &["serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    if !pod::secret_names(spec).is_empty() {
        return Some("secrets");
    }
    let config = |c: &&Value| {
        items(c, "envFrom").any(|e| !text(e, &["configMapRef", "name"]).is_empty())
            || items(c, "env").any(|e| !text(e, &["valueFrom", "configMapKeyRef", "name"]).is_empty())
    };
    let all = pod::containers(spec, &["initContainers", "containers", "ephemeralContainers"]);
    if all.iter().any(|(_, container)| config(container)) {
        return Some("configmaps");
    }
    if items(spec, "resourceClaims").next().is_some() {
        return Some("resourceclaims");
    }
    let sources: [(&str, &'static str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    let projections: [(&str, &'static str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let find = |holder: &Value, table: &[(&str, &'static str)]| {
        table.iter().find(|(field, _)| holder.get(*field).is_some_and(|v| !v.is_null())).map(|(_, what)| *what)
    };
    items(spec, "volumes").find_map(|volume| {
        let projected = volume.get("projected").into_iter().flat_map(|p| items(p, "sources"));
        find(volume, &sources).or_else(|| projected.into_iter().find_map(|source| find(source, &projections)))
    })
}

fn pod_status(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    need(request.operation == Operation::Update, format!("unexpected operation {:?}", request.operation.as_str()))?;
    let (Some(object), Some(old)) = (object, request.old) else { return Ok(()) };
    need(
        node_of(old) == node,
        format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"),
    )?;
    need(old.label_map() == object.label_map(), format!("node {node:?} cannot update labels through pod status"))?;
    let same = |field: &str| {
        let value = |o: &Object| o.get(&["status", field]).filter(|v| !v.is_null()).cloned();
        value(old) == value(object)
    };
    need(same("resourceClaimStatuses"), format!("node {node:?} cannot update resource claim statues"))?;
    need(same("extendedResourceClaimStatus"), format!("node {node:?} cannot update extended resource claim status"))
}

async fn eviction(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    need(request.operation == Operation::Create, format!("unexpected operation {}", request.operation.as_str()))?;
    let name = if request.name.is_empty() { object.map(Object::name).unwrap_or_default() } else { request.name };
    need(!name.is_empty(), "could not determine pod from request data")?;
    let found = get_pod(request, name).await?;
    need(node_of(&found) == node, format!("node {node} can only evict pods with spec.nodeName set to itself"))
}

const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

fn in_domain(namespace: &str, domain: &str) -> bool {
    namespace == domain || namespace.strip_suffix(domain).is_some_and(|head| head.ends_with('.'))
}

fn is_forbidden_label(key: &str) -> bool {
    let namespace = key.split_once('/').map(|(ns, _)| ns).unwrap_or_default();
    if in_domain(namespace, "node-restriction.kubernetes.io") {
        return true;
    }
    let kubernetes = in_domain(namespace, "kubernetes.io") || in_domain(namespace, "k8s.io");
    let allowed = KUBELET_LABELS.contains(&key)
        || in_domain(namespace, "kubelet.kubernetes.io")
        || in_domain(namespace, "node.kubernetes.io");
    kubernetes && !allowed
}

/// Labels that differ and that a kubelet may not touch, sorted.
fn forbidden_labels(object: &Object, old: Option<&Object>) -> Vec<String> {
    let (new, old) = (object.label_map(), old.map(Object::label_map).unwrap_or_default());
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = keys.into_iter().filter(|key| new.get(*key) != old.get(*key));
    changed.filter(|key| is_forbidden_label(key)).cloned().collect()
}

fn node_itself(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    let name = if request.name.is_empty() { object.map(Object::name).unwrap_or_default() } else { request.name };
    need(name == node, format!("node {node:?} is not allowed to modify node {name:?}"))?;
    let Some(object) = object else { return Ok(()) };
    let set = |o: &Object, path: &[&str]| {
        o.get(path).filter(|v| !v.is_null() && v.as_array().is_none_or(|a| !a.is_empty())).cloned()
    };
    let config = set(object, &["spec", "configSource"]);
    if request.operation == Operation::Create {
        need(config.is_none(), format!("node {node:?} is not allowed to create pods with a non-nil configSource"))?;
        let labels = forbidden_labels(object, None);
        let cause = format!("node {node:?} is not allowed to set the following labels: {}", labels.join(", "));
        return need(labels.is_empty(), cause);
    }
    let Some(old) = request.old else { return Ok(()) };
    need(
        config.is_none() || config == set(old, &["spec", "configSource"]),
        format!("node {node:?} is not allowed to update configSource to a new non-nil configSource"),
    )?;
    let taints = ["spec", "taints"];
    need(set(object, &taints) == set(old, &taints), format!("node {node:?} is not allowed to modify taints"))?;
    need(
        object.owner_references() == old.owner_references(),
        format!("node {node:?} is not allowed to modify ownerReferences"),
    )?;
    let labels = forbidden_labels(object, Some(old));
    need(labels.is_empty(), format!("is not allowed to modify labels: {}", labels.join(", ")))
}

fn claim_status(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    need(request.subresource == "status", "may only update PVC status")?;
    need(request.operation == Operation::Update, format!("unexpected operation {:?}", request.operation.as_str()))?;
    let (Some(object), Some(old)) = (object, request.old) else { return Ok(()) };
    let rest = |object: &Object| {
        let mut object = object.clone();
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            object.remove(&["status", field]);
        }
        for field in ["resourceVersion", "managedFields"] {
            object.metadata_mut().remove(field);
        }
        object
    };
    need(
        rest(object) == rest(old),
        format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions"),
    )
}

async fn token(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    if request.operation != Operation::Create || request.subresource != "token" {
        return Ok(());
    }
    let Some(object) = object else { return Ok(()) };
    let reference = |field: &str| object.get_str(&["spec", "boundObjectRef", field]);
    let bound = reference("apiVersion") == "v1" && reference("kind") == "Pod" && !reference("name").is_empty();
    need(bound, "node requested token not bound to a pod")?;
    let uid = reference("uid");
    need(!uid.is_empty(), "node requested token with a pod binding without a uid")?;
    let pod = get_pod(request, reference("name")).await?;
    need(
        uid == pod.uid(),
        format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ),
    )?;
    need(node_of(&pod) == node, "node requested token bound to a pod scheduled on a different node")?;
    audience(request, &pod, object).await
}

/// A kubelet asks only for audiences that the pod's volumes name, or that it was given leave for.
async fn audience(request: &Request<'_>, pod: &Object, token: &Object) -> Answer {
    let audiences: Vec<&str> = items(pod::spec(token), "audiences").filter_map(Value::as_str).collect();
    need(audiences.len() < 2, "node may only request 0 or 1 audiences")?;
    let audience = audiences.first().copied().unwrap_or("");
    for volume in items(pod::spec(pod), "volumes") {
        let projected = volume.get("projected").into_iter().flat_map(|p| items(p, "sources"));
        let tokens = projected.into_iter().filter_map(|s| s.get("serviceAccountToken")).filter(|t| !t.is_null());
        if tokens.into_iter().any(|t| text(t, &["audience"]) == audience) {
            return Ok(());
        }
        let driver = driver_of(request, pod, volume).await?;
        if !driver.is_empty() && driver_has_audience(request, &driver, audience).await? {
            return Ok(());
        }
    }
    let attributes = Attributes {
        user: request.user.clone(),
        verb: "request-serviceaccounts-token-audience".into(),
        namespace: request.namespace.into(),
        api_version: "v1".into(),
        resource: audience.into(),
        name: request.name.into(),
        resource_request: true,
        ..Attributes::default()
    };
    if let Some(authorizer) = &request.deps.authorizer
        && matches!(authorizer.authorize(&attributes).await, Ok((Decision::Allow, _)))
    {
        return Ok(());
    }
    let user = &request.user.name;
    Err(format!("audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience").into())
}

/// The CSI driver behind a volume, empty when there is none.
async fn driver_of(request: &Request<'_>, pod: &Object, volume: &Value) -> Result<String, Status> {
    let direct = text(volume, &["csi", "driver"]);
    if !direct.is_empty() {
        return Ok(direct.to_owned());
    }
    let claim = if volume.get("ephemeral").is_some_and(Value::is_object) {
        format!("{}-{}", pod.name(), text(volume, &["name"]))
    } else {
        text(volume, &["persistentVolumeClaim", "claimName"]).to_owned()
    };
    if claim.is_empty() {
        return Ok(String::new());
    }
    let claim = request.core("persistentvolumeclaims", pod.namespace(), &claim).await?;
    let name = claim.map(|c| c.get_str(&["spec", "volumeName"]).to_owned()).unwrap_or_default();
    if name.is_empty() {
        return Ok(name);
    }
    let volume = request.core("persistentvolumes", "", &name).await?;
    Ok(volume.map(|v| v.get_str(&["spec", "csi", "driver"]).to_owned()).unwrap_or_default())
}

async fn driver_has_audience(request: &Request<'_>, driver: &str, audience: &str) -> Result<bool, Status> {
    let drivers = GroupVersionResource::new("storage.k8s.io", "v1", "csidrivers");
    let found = request.deps.api.get(&drivers, "", driver).await?;
    Ok(found.is_some_and(|d| items(pod::spec(&d), "tokenRequests").any(|t| text(t, &["audience"]) == audience)))
}

fn own_name(request: &Request<'_>, node: &str, object: Option<&Object>, cause: &str) -> Answer {
    let name = match request.operation {
        Operation::Create => object.map(Object::name).unwrap_or_default(),
        _ => request.name,
    };
    need(name == node, cause)
}

fn lease(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    need(request.namespace == "kube-node-lease", "can only access leases in the \"kube-node-lease\" system namespace")?;
    own_name(request, node, object, "can only access node lease with the same name as the requesting node")
}

fn resource_slice(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    let (object, verb) = match request.operation {
        Operation::Create => (object, "create"),
        Operation::Delete => (request.old, "delete"),
        _ => return Ok(()),
    };
    let owner = object.map(node_of).unwrap_or_default();
    need(owner == node, format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

fn signing_request(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    let signers = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
    let Some(object) = object.filter(|o| signers.contains(&o.get_str(&["spec", "signerName"]))) else { return Ok(()) };
    if request.operation != Operation::Create {
        return Ok(());
    }
    let pem = STANDARD.decode(object.get_str(&["spec", "request"])).unwrap_or_default();
    let parsed = pki::Request::parse(&String::from_utf8_lossy(&pem))
        .map_err(|error| Refusal::Cause(format!("unable to parse csr: {error}")))?;
    let wanted = format!("system:node:{node}");
    need(parsed.subject.common_name == wanted, format!("can only create a node CSR with CN={wanted}"))
}

async fn check(request: &Request<'_>, node: &str, object: Option<&Object>) -> Answer {
    let same = "can only access CSINode with the same name as the requesting node";
    match (request.resource.group.as_str(), request.resource.resource.as_str(), request.subresource) {
        ("", "pods", "") => pod_itself(request, node, object).await,
        ("", "pods", "status") => pod_status(request, node, object),
        ("", "pods", "eviction") => eviction(request, node, object).await,
        ("", "pods", other) => {
            Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed").into())
        }
        ("", "nodes", _) => node_itself(request, node, object),
        ("", "persistentvolumeclaims", _) => claim_status(request, node, object),
        ("", "serviceaccounts", _) => token(request, node, object).await,
        ("coordination.k8s.io", "leases", _) => lease(request, node, object),
        ("storage.k8s.io", "csinodes", _) => own_name(request, node, object, same),
        ("resource.k8s.io", "resourceslices", _) => resource_slice(request, node, object),
        ("certificates.k8s.io", "certificatesigningrequests", _) => signing_request(request, node, object),
        _ => Ok(()),
    }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation != Operation::Connect && request.user.in_group(groups::NODES)
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(node) = request.user.as_node() else { return Ok(()) };
        let object = object.as_deref();
        if node.is_empty() {
            let cause = format!("could not determine node from user {:?}", request.user.name);
            return Err(request.forbidden(object, cause));
        }
        check(request, node, object).await.map_err(|refusal| match refusal {
            Refusal::Cause(cause) => request.forbidden(object, cause),
            Refusal::Status(status) => status,
        })
    }
}
