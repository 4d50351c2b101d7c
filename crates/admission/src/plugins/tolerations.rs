//! PodTolerationRestriction: namespaces give their pods tolerations, and bound those that pods may have.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{Object, Status};
use registry::Operation;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::plugin::{Deps, Plugin, Request, core};
use crate::pod::{self, items, text};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const WHITELIST: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

/// The plugin, with what holds where a namespace says nothing.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TolerationRestriction {
    default: Vec<Value>,
    whitelist: Vec<Value>,
}

/// Makes the plugin as configured.
///
/// # Errors
/// The configuration is wrong.
pub fn make(deps: &Deps) -> Result<Arc<dyn Plugin>, String> {
    let kinds = [("podtolerationrestriction.admission.k8s.io/v1alpha1", "Configuration")];
    let found: Option<TolerationRestriction> = deps.settings.configs.typed("PodTolerationRestriction", &kinds)?;
    Ok(Arc::new(found.unwrap_or_default()))
}

/// A toleration without what is empty.
fn normal(toleration: &Value) -> Value {
    let mut toleration = toleration.clone();
    if let Some(fields) = toleration.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
    }
    toleration
}

/// Whether `wide` tolerates all that `narrow` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if normal(wide) == normal(narrow) {
        return true;
    }
    let of = |toleration: &'_ Value, field: &str| text(toleration, &[field]).to_owned();
    let exists = of(wide, "operator") == "Exists";
    if of(narrow, "key") != of(wide, "key") && !(of(wide, "key").is_empty() && exists) {
        return false;
    }
    if of(narrow, "effect") != of(wide, "effect") && !of(wide, "effect").is_empty() {
        return false;
    }
    let seconds = |toleration: &Value| toleration.get("tolerationSeconds").and_then(Value::as_i64);
    if of(wide, "effect") == "NoExecute"
        && let Some(most) = seconds(wide)
        && seconds(narrow).is_none_or(|asked| asked > most)
    {
        return false;
    }
    match of(wide, "operator").as_str() {
        "Exists" => true,
        "Equal" | "" => of(narrow, "operator") == "Equal" && of(narrow, "value") == of(wide, "value"),
        _ => false,
    }
}

/// Both lists in order, without those that another one covers.
fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (i, toleration) in all.iter().enumerate() {
        let covered = merged.iter().any(|kept| covers(kept, toleration))
            || all[i + 1..].iter().any(|later| normal(later) != normal(toleration) && covers(later, toleration));
        if !covered {
            merged.push((*toleration).clone());
        }
    }
    merged
}

/// The tolerations in an annotation; none when it is absent, an empty list when it is empty.
fn annotated(namespace: &Object, key: &str) -> Result<Option<Vec<Value>>, Status> {
    match namespace.annotation(key) {
        None => Ok(None),
        Some("") => Ok(Some(Vec::new())),
        Some(text) => serde_json::from_str(text).map(Some).map_err(Status::internal),
    }
}

async fn namespace(request: &Request<'_>) -> Result<Arc<Object>, Status> {
    let found = request.core("namespaces", "", request.namespace).await?;
    found.ok_or_else(|| Status::not_found(&core("namespaces").group_resource(), request.namespace))
}

impl TolerationRestriction {
    async fn check(&self, request: &Request<'_>, pod: &Object) -> Result<(), Status> {
        let given: Vec<&Value> = items(pod::spec(pod), "tolerations").collect();
        if given.is_empty() {
            return Ok(());
        }
        let own = annotated(&*namespace(request).await?, WHITELIST)?;
        let scope = if own.is_some() { "namespace" } else { "cluster" };
        let whitelist = own.unwrap_or_else(|| self.whitelist.clone());
        let allowed = |toleration: &&Value| whitelist.iter().any(|wide| covers(wide, toleration));
        if whitelist.is_empty() || given.iter().all(allowed) {
            return Ok(());
        }
        Err(Status::internal(format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
        )))
    }
}

#[async_trait]
impl Plugin for TolerationRestriction {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is("", "pods")
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let mut extra = Vec::new();
        if request.operation == Operation::Create {
            let own = annotated(&*namespace(request).await?, DEFAULTS)?;
            extra = own.unwrap_or_else(|| self.default.clone());
        }
        if component_helpers::tree::qos_class(pod::spec(pod)) != "BestEffort" {
            extra.push(
                json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}),
            );
        }
        if !extra.is_empty() {
            let given: Vec<Value> = items(pod::spec(pod), "tolerations").cloned().collect();
            pod.set(&["spec", "tolerations"], Value::Array(merge(&given, &extra)));
        }
        self.check(request, pod).await
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        match object {
            Some(pod) => self.check(request, pod).await,
            None => Ok(()),
        }
    }
}
