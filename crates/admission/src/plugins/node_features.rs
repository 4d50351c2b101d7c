//! PodResizeValidator and NodeDeclaredFeatureValidator: an update that the pod's node cannot carry out is refused.

use std::sync::Arc;

use async_trait::async_trait;
use component_helpers::quota::{requests, resources};
use meta::{Object, Status, StatusCause};
use registry::Operation;
use serde_json::Value;

use crate::plugin::{Plugin, Request};
use crate::pod::{self, items, text};

/// Whether a bound pod's spec changes.
fn changes(request: &Request<'_>, pod: &Object) -> bool {
    let same = request.old.is_none_or(|old| old.generation() == pod.generation());
    !pod.get_str(&["spec", "nodeName"]).is_empty() && !same
}

async fn node_of(request: &Request<'_>, pod: &Object) -> Result<Arc<Object>, Status> {
    let name = pod.get_str(&["spec", "nodeName"]);
    match request.core("nodes", "", name).await {
        Ok(Some(node)) => Ok(node),
        Ok(None) => Err(request.forbidden(Some(pod), format!("node {name:?} not found"))),
        Err(error) => Err(request.forbidden(Some(pod), format!("failed to get node {name:?}: {error}"))),
    }
}

/// PodResizeValidator.
pub struct PodResize;

fn refusal(request: &Request<'_>, pod: &Object, reason: &str, cause: String) -> Status {
    let mut status = request.forbidden(Some(pod), cause);
    let cause = StatusCause { reason: reason.into(), ..StatusCause::default() };
    status.details.get_or_insert_default().causes.push(cause);
    status
}

#[async_trait]
impl Plugin for PodResize {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Update && request.is_any_of("", "pods") && request.subresource == "resize"
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = object.filter(|pod| changes(request, pod)) else { return Ok(()) };
        let node = node_of(request, pod).await?;
        if let Some(system) = node.label("kubernetes.io/os").filter(|system| *system != "linux") {
            let cause = format!("pod resize is only supported on linux nodes, node {:?} is {system:?}", node.name());
            return Err(refusal(request, pod, "UnsupportedPlatform", cause));
        }
        let there = resources(node.get(&["status", "allocatable"]));
        let asked = requests(pod::spec(pod), true);
        let mut lacking = Vec::new();
        for name in ["cpu", "memory"] {
            let of = |list: &component_helpers::quota::Usage| list.get(name).copied().unwrap_or_default();
            let (asked, there) = (of(&asked), of(&there));
            if asked > there {
                let number = |q: meta::quantity::Quantity| if name == "cpu" { q.milli_value() } else { q.value() };
                lacking.push(format!("{name}, requested: {}, allocatable: {}", number(asked), number(there)));
            }
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let cause = format!("node didn't have enough allocatable resources: {}", lacking.join("; "));
        Err(refusal(request, pod, "NodeCapacity", cause))
    }
}

/// NodeDeclaredFeatureValidator.
pub struct DeclaredFeatures;

/// The features that an update needs of the node, in upstream's order.
fn needed(old: &Value, new: &Value) -> Vec<&'static str> {
    let mut features = Vec::new();
    let own = |value: &Value| value.get("resources").filter(|r| !r.is_null()).cloned();
    if own(old) != own(new) {
        features.push("InPlacePodLevelResourcesVerticalScaling");
    }
    let resized = items(old, "initContainers").zip(items(new, "initContainers")).any(|(before, after)| {
        text(before, &["restartPolicy"]) != "Always" && before.get("resources") != after.get("resources")
    });
    if resized {
        features.push("InPlacePodVerticalScalingInitContainers");
    }
    features
}

#[async_trait]
impl Plugin for DeclaredFeatures {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Update
            && request.is_any_of("", "pods")
            && matches!(request.subresource, "" | "resize")
            && request.deps.settings.gates.enabled("NodeDeclaredFeatures")
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = object.filter(|pod| changes(request, pod)) else { return Ok(()) };
        let Some(old) = request.old else { return Ok(()) };
        let mut features = needed(pod::spec(old), pod::spec(pod));
        if features.is_empty() {
            return Ok(());
        }
        let node = node_of(request, pod).await?;
        let declared = node.get(&["status", "declaredFeatures"]).and_then(Value::as_array);
        let has = |feature: &str| declared.into_iter().flatten().any(|known| known.as_str() == Some(feature));
        features.retain(|feature| !has(feature));
        if features.is_empty() {
            return Ok(());
        }
        let cause = format!(
            "pod update requires features {} which are not available on node {:?}",
            features.join(", "),
            node.name()
        );
        Err(request.forbidden(Some(pod), cause))
    }
}
