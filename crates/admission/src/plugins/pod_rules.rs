//! Small plugins that change or refuse pods.

use async_trait::async_trait;
use meta::{Object, Status};
use registry::Operation;
use serde_json::{Value, json};

use crate::plugin::{Plugin, Request};
use crate::pod::{self, items, text};

/// DefaultTolerationSeconds: pods outlast a node's short absence.
pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is("", "pods")
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let settings = &request.deps.settings;
        let mut tolerations: Vec<Value> = items(pod::spec(pod), "tolerations").cloned().collect();
        let before = tolerations.len();
        let wanted = [
            ("node.kubernetes.io/not-ready", settings.not_ready_toleration_seconds),
            ("node.kubernetes.io/unreachable", settings.unreachable_toleration_seconds),
        ];
        let given = tolerations.clone();
        for (key, seconds) in wanted {
            let tolerates = |t: &Value| {
                matches!(text(t, &["key"]), k if k == key || k.is_empty())
                    && matches!(text(t, &["effect"]), "NoExecute" | "")
            };
            if !given.iter().any(tolerates) {
                tolerations.push(
                    json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}),
                );
            }
        }
        if tolerations.len() > before {
            pod.set(&["spec", "tolerations"], Value::Array(tolerations));
        }
        Ok(())
    }
}

/// AlwaysPullImages: every image is pulled, so that its credentials are checked every time.
pub struct AlwaysPullImages;

const ALL_CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update)
            && request.is_any_of("", "pods")
            && matches!(request.subresource, "" | "ephemeralcontainers")
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        // An update that brings no new image must not change the policy of what runs.
        let images = |object: &Object| -> Vec<String> {
            let all = pod::containers(pod::spec(object), &ALL_CONTAINERS);
            all.iter().map(|(_, c)| text(c, &["image"]).to_owned()).collect()
        };
        if request.old.is_some_and(|old| images(pod).iter().all(|image| images(old).contains(image))) {
            return Ok(());
        }
        pod::each_container(pod, &ALL_CONTAINERS, |container| {
            container.insert("imagePullPolicy".into(), json!("Always"));
        });
        Ok(())
    }
}

/// PodNodeSelector: a namespace's annotation selects the nodes of its pods.
pub struct PodNodeSelector;

const NODE_SELECTOR: &str = "scheduler.alpha.kubernetes.io/node-selector";

#[async_trait]
impl Plugin for PodNodeSelector {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.creates_pod()
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let namespace = request.core("namespaces", "", request.namespace).await?;
        let annotation = namespace.as_ref().and_then(|ns| ns.annotation(NODE_SELECTOR)).unwrap_or("");
        for pair in annotation.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Status::internal(format!("node selector of namespace {} is malformed", request.namespace)));
            };
            let path = ["spec", "nodeSelector", key.trim()];
            if pod.get(&path).is_some_and(|given| given.as_str() != Some(value.trim())) {
                return Err(request
                    .forbidden(Some(pod), "pod node label selector conflicts with its namespace node label selector"));
            }
            pod.set(&path, json!(value.trim()));
        }
        Ok(())
    }
}

/// LimitPodHardAntiAffinityTopology: hard anti-affinity only by host.
pub struct AntiAffinity;

#[async_trait]
impl Plugin for AntiAffinity {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.creates_pod()
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let path = ["spec", "affinity", "podAntiAffinity"];
        let terms = pod.get(&path).into_iter().flat_map(|a| items(a, "requiredDuringSchedulingIgnoredDuringExecution"));
        for term in terms {
            let key = text(term, &["topologyKey"]);
            if key != "kubernetes.io/hostname" {
                let cause = format!(
                    "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key \
                     kubernetes.io/hostname is allowed"
                );
                return Err(request.forbidden(Some(pod), cause));
            }
        }
        Ok(())
    }
}

/// ExtendedResourceToleration: pods that ask for a device tolerate the taint of its nodes.
pub struct ExtendedResourceToleration;

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is("", "pods")
    }

    async fn admit(&self, _request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let spec = pod::spec(pod);
        let mut tolerations: Vec<Value> = items(spec, "tolerations").cloned().collect();
        let before = tolerations.len();
        for (_, container) in pod::containers(spec, &["containers", "initContainers"]) {
            let requests = container.get("resources").and_then(|r| r.get("requests")).and_then(Value::as_object);
            for name in requests.into_iter().flatten().map(|(name, _)| name).filter(|n| is_extended(n)) {
                let toleration = json!({"key": name, "operator": "Exists", "effect": ""});
                if !tolerations.iter().any(|t| text(t, &["key"]) == name && text(t, &["operator"]) == "Exists") {
                    tolerations.push(toleration);
                }
            }
        }
        if tolerations.len() > before {
            pod.set(&["spec", "tolerations"], Value::Array(tolerations));
        }
        Ok(())
    }
}

/// Whether a resource is a device of some domain.
fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with("requests.")
}

/// PodTopologyLabels: a pod carries the zone and region of its node.
pub struct TopologyLabels;

const TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

#[async_trait]
impl Plugin for TopologyLabels {
    fn handles(&self, request: &Request<'_>) -> bool {
        let binding = request.is_any_of("", "pods") && request.subresource == "binding" || request.is("", "bindings");
        request.operation == Operation::Create && (binding || request.is("", "pods"))
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let node = if request.is("", "pods") {
            object.get_str(&["spec", "nodeName"])
        } else if matches!(object.get_str(&["target", "kind"]), "Node" | "") {
            object.get_str(&["target", "name"])
        } else {
            ""
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(node) = request.core("nodes", "", node).await? else { return Ok(()) };
        for label in TOPOLOGY_LABELS {
            if let Some(value) = node.label(label) {
                object.set_label(label, value);
            }
        }
        Ok(())
    }
}
