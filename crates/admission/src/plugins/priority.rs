//! Priority: turns a pod's priority class into its number, and keeps one default class.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{GroupVersionResource, Object, Status};
use registry::Operation;
use serde_json::{Value, json};

use crate::plugin::{Plugin, Request};

const GROUP: &str = "scheduling.k8s.io";

/// The plugin.
pub struct Priority;

fn classes() -> GroupVersionResource {
    GroupVersionResource::new(GROUP, "v1", "priorityclasses")
}

fn value(class: &Object) -> i64 {
    class.get_i64(&["value"]).unwrap_or(0)
}

/// The default class; of several, the one with the lowest value.
async fn default_class(request: &Request<'_>) -> Result<Option<Arc<Object>>, Status> {
    let all = request.deps.api.list(&classes(), "").await?;
    let defaults = all.into_iter().filter(|c| c.get_bool(&["globalDefault"]) == Some(true));
    Ok(defaults.min_by_key(|c| value(c)))
}

async fn class_of(request: &Request<'_>, pod: &Object) -> Result<(String, i64, Option<String>), Status> {
    let name = pod.get_str(&["spec", "priorityClassName"]);
    let class = if name.is_empty() {
        match default_class(request).await? {
            Some(class) => class,
            None => return Ok((String::new(), 0, Some("PreemptLowerPriority".into()))),
        }
    } else {
        let found = request.deps.api.get(&classes(), "", name).await?;
        found.ok_or_else(|| request.forbidden(Some(pod), format!("no PriorityClass with name {name} was found")))?
    };
    let policy = class.get_str(&["preemptionPolicy"]);
    Ok((class.name().to_owned(), value(&class), (!policy.is_empty()).then(|| policy.to_owned())))
}

async fn admit_new(request: &Request<'_>, pod: &mut Object) -> Result<(), Status> {
    let (name, priority, policy) = class_of(request, pod).await?;
    if !name.is_empty() {
        pod.set(&["spec", "priorityClassName"], json!(name));
    }
    if let Some(given) = pod.get_i64(&["spec", "priority"]).filter(|given| *given != priority) {
        let cause = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed \
             {priority} from the given PriorityClass name"
        );
        return Err(request.forbidden(Some(pod), cause));
    }
    pod.set(&["spec", "priority"], json!(priority));
    let Some(policy) = policy else { return Ok(()) };
    let given = pod.get_str(&["spec", "preemptionPolicy"]);
    if !given.is_empty() && given != policy {
        let cause = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        );
        return Err(request.forbidden(Some(pod), cause));
    }
    pod.set(&["spec", "preemptionPolicy"], json!(policy));
    Ok(())
}

/// What create set is kept when an update leaves it out.
fn keep(pod: &mut Object, old: &Object) {
    for field in ["priority", "preemptionPolicy"] {
        let path = ["spec", field];
        let missing = pod.get(&path).is_none_or(Value::is_null);
        if let Some(before) = old.get(&path).filter(|v| missing && !v.is_null()) {
            pod.set(&path, before.clone());
        }
    }
}

#[async_trait]
impl Plugin for Priority {
    fn handles(&self, request: &Request<'_>) -> bool {
        let write = matches!(request.operation, Operation::Create | Operation::Update);
        write && (request.is("", "pods") || request.is(GROUP, "priorityclasses"))
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(pod) = object.filter(|_| request.is("", "pods")) else { return Ok(()) };
        match request.old {
            Some(old) if request.operation == Operation::Update => {
                keep(pod, old);
                Ok(())
            }
            _ => admit_new(request, pod).await,
        }
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(class) = object.filter(|_| request.is(GROUP, "priorityclasses")) else { return Ok(()) };
        if class.get_bool(&["globalDefault"]) != Some(true) {
            return Ok(());
        }
        let Some(other) = default_class(request).await? else { return Ok(()) };
        if request.operation == Operation::Create || other.name() != class.name() {
            let cause =
                format!("PriorityClass {} is already marked as default. Only one default can exist", other.name());
            return Err(request.forbidden(Some(class), cause));
        }
        Ok(())
    }
}
