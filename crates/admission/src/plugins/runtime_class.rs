//! RuntimeClass: a pod carries its class's overhead and scheduling.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{GroupVersionResource, Object, Status};
use serde_json::Value;

use crate::plugin::{Plugin, Request};
use crate::pod::{self, items, resources};

/// The plugin.
pub struct RuntimeClass;

async fn class_of(request: &Request<'_>, pod: &Object) -> Result<Option<Arc<Object>>, Status> {
    let name = pod.get_str(&["spec", "runtimeClassName"]);
    if name.is_empty() {
        return Ok(None);
    }
    let classes = GroupVersionResource::new("node.k8s.io", "v1", "runtimeclasses");
    let found = request.deps.api.get(&classes, "", name).await?;
    match found {
        Some(class) => Ok(Some(class)),
        None => Err(request.forbidden(Some(pod), format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

fn set_overhead(class: &Object, pod: &mut Object) -> Result<(), String> {
    let Some(fixed) = class.get(&["overhead", "podFixed"]).filter(|v| !v.is_null()) else { return Ok(()) };
    let given = resources(pod.get(&["spec", "overhead"]));
    if !given.is_empty() && given != resources(Some(fixed)) {
        return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
    }
    pod.set(&["spec", "overhead"], fixed.clone());
    Ok(())
}

fn set_scheduling(class: &Object, pod: &mut Object) -> Result<(), String> {
    let Some(scheduling) = class.get(&["scheduling"]).filter(|v| !v.is_null()) else { return Ok(()) };
    for (key, value) in scheduling.get("nodeSelector").and_then(Value::as_object).into_iter().flatten() {
        let path = ["spec", "nodeSelector", key.as_str()];
        let (wanted, given) = (value.as_str().unwrap_or(""), pod.get_str(&path).to_owned());
        if pod.get(&path).is_some() && given != wanted {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {given}"
            ));
        }
        pod.set(&path, value.clone());
    }
    let mut tolerations: Vec<Value> = items(pod::spec(pod), "tolerations").cloned().collect();
    let before = tolerations.len();
    for toleration in items(scheduling, "tolerations") {
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    if tolerations.len() > before {
        pod.set(&["spec", "tolerations"], Value::Array(tolerations));
    }
    Ok(())
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.creates_pod()
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let Some(class) = class_of(request, pod).await? else { return Ok(()) };
        set_overhead(&class, pod)
            .and_then(|()| set_scheduling(&class, pod))
            .map_err(|cause| request.forbidden(Some(pod), cause))
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let class = class_of(request, pod).await?;
        let fixed = class.as_ref().and_then(|c| c.get(&["overhead", "podFixed"])).filter(|v| !v.is_null());
        let given = pod.get(&["spec", "overhead"]).filter(|v| !v.is_null());
        match (fixed, given) {
            (Some(fixed), given) if resources(Some(fixed)) != resources(given) => Err(request
                .forbidden(Some(pod), "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")),
            (None, Some(_)) => Err(request.forbidden(
                Some(pod),
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
            _ => Ok(()),
        }
    }
}
