//! Small plugins that change or refuse pods.

use std::collections::BTreeSet;

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

/// Whether an update brings no new image: it must not change the policy of what runs.
fn keeps_images(request: &Request<'_>, pod: &Object) -> bool {
    let images = |object: &Object| -> Vec<String> {
        let all = pod::containers(pod::spec(object), &ALL_CONTAINERS);
        all.iter().map(|(_, c)| text(c, &["image"]).to_owned()).collect()
    };
    request.old.is_some_and(|old| images(pod).iter().all(|image| images(old).contains(image)))
}

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is("", "pods")
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(pod) = object.filter(|pod| !keeps_images(request, pod)) else { return Ok(()) };
        pod::each_container(pod, &ALL_CONTAINERS, |container| {
            container.insert("imagePullPolicy".into(), json!("Always"));
        });
        let volumes = pod.spec_mut().get_mut("volumes").and_then(Value::as_array_mut);
        for image in volumes.into_iter().flatten().filter_map(|v| v.get_mut("image")).filter(|i| i.is_object()) {
            image["pullPolicy"] = json!("Always");
        }
        Ok(())
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = object.filter(|pod| !keeps_images(request, pod)) else { return Ok(()) };
        let path = meta::field::Path::new("spec");
        let spec = pod::spec(pod);
        let mut wrong = Vec::new();
        let mut check = |path: meta::field::Path, policy: &str| {
            if policy != "Always" {
                let cause = meta::field::Error::not_supported(&path, policy, &["Always"]);
                wrong.push(request.forbidden(Some(pod), cause));
            }
        };
        for list in ALL_CONTAINERS {
            for (i, container) in items(spec, list).enumerate() {
                check(path.child(list).index(i).child("imagePullPolicy"), text(container, &["imagePullPolicy"]));
            }
        }
        for (i, volume) in items(spec, "volumes").enumerate() {
            if volume.get("image").is_some_and(Value::is_object) {
                let path = path.child("volumes").index(i).child("image").child("pullPolicy");
                check(path, text(volume, &["image", "pullPolicy"]));
            }
        }
        match wrong.len() {
            0 => Ok(()),
            1 => Err(wrong.remove(0)),
            _ => {
                let all: Vec<String> = wrong.into_iter().map(|status| status.message).collect();
                Err(Status::internal(format!("[{}]", all.join(", "))))
            }
        }
    }
}

/// LimitPodHardAntiAffinityTopology: hard anti-affinity only by host.
pub struct AntiAffinity;

#[async_trait]
impl Plugin for AntiAffinity {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is("", "pods")
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
        let all = pod::containers(spec, &["containers", "initContainers"]);
        let requests = all.iter().filter_map(|(_, c)| c.get("resources")?.get("requests")?.as_object());
        let devices: BTreeSet<&String> = requests.flat_map(|r| r.keys()).filter(|name| is_extended(name)).collect();
        let mut tolerations: Vec<Value> = items(spec, "tolerations").cloned().collect();
        for device in devices {
            let wanted = json!({"key": device, "operator": "Exists", "effect": "NoSchedule"});
            let same = |t: &&mut Value| {
                text(t, &["key"]) == device
                    && text(t, &["effect"]) == "NoSchedule"
                    && text(t, &["operator"]) == "Exists"
                    && text(t, &["value"]).is_empty()
            };
            match tolerations.iter_mut().find(same) {
                Some(found) => *found = wanted,
                None => tolerations.push(wanted),
            }
        }
        if !tolerations.is_empty() {
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
        let on = request.deps.settings.gates.enabled("PodTopologyLabelsAdmission");
        on && request.operation == Operation::Create && (binding || request.is("", "pods"))
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
