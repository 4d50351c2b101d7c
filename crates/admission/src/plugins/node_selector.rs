//! PodNodeSelector: a namespace's annotation, or the configuration, selects the nodes of its pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use meta::{Object, Status};
use serde_json::{Value, json};

use crate::plugin::{Deps, Plugin, Request, core};

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The configuration's key for namespaces without an annotation.
const DEFAULT: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

/// The plugin, with selectors by namespace (each is what the namespace's pods may have) and the default.
pub struct PodNodeSelector(BTreeMap<String, String>);

/// Makes the plugin as configured; what cannot be read counts as nothing, as upstream.
pub fn make(deps: &Deps) -> Result<Arc<dyn Plugin>, String> {
    let config = deps.settings.configs.get("PodNodeSelector").and_then(|c| c.get("podNodeSelectorPluginConfig"));
    let pairs = config.and_then(Value::as_object).into_iter().flatten();
    let all = pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Ok(Arc::new(PodNodeSelector(all.collect())))
}

/// Upstream's `key=value,key=value`.
fn labels(text: &str) -> Result<Labels, String> {
    let mut all = Labels::new();
    if text.is_empty() {
        return Ok(all);
    }
    for pair in text.split(',') {
        let Some((key, value)) = pair.split_once('=').filter(|(_, value)| !value.contains('=')) else {
            return Err(format!("invalid selector: {pair}"));
        };
        let (key, value) = (key.trim(), value.trim());
        if let Some(wrong) = meta::names::qualified_name(key).first() {
            return Err(format!("invalid label key {key:?}: {wrong}"));
        }
        if let Some(wrong) = meta::names::label_value(value).first() {
            return Err(format!("invalid label value: {value:?}: at key: {key:?}: {wrong}"));
        }
        all.insert(key.to_owned(), value.to_owned());
    }
    Ok(all)
}

fn own(pod: &Object) -> Labels {
    let selector = pod.get(&["spec", "nodeSelector"]).and_then(Value::as_object).into_iter().flatten();
    selector.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

impl PodNodeSelector {
    async fn wanted(&self, request: &Request<'_>) -> Result<Labels, Status> {
        let namespace = request.core("namespaces", "", request.namespace).await?;
        let Some(namespace) = namespace else {
            return Err(Status::not_found(&core("namespaces").group_resource(), request.namespace));
        };
        let default = self.0.get(DEFAULT).map_or("", String::as_str);
        labels(namespace.annotation(ANNOTATION).unwrap_or(default)).map_err(Status::internal)
    }

    fn check(&self, request: &Request<'_>, pod: &Object, wanted: &Labels) -> Result<(), Status> {
        let own = own(pod);
        if own.iter().any(|(key, value)| wanted.get(key).is_some_and(|other| other != value)) {
            let cause = "pod node label selector conflicts with its namespace node label selector";
            return Err(request.forbidden(Some(pod), cause));
        }
        let allowed = labels(self.0.get(request.namespace).map_or("", String::as_str)).map_err(Status::internal)?;
        if !allowed.is_empty() && own.iter().any(|(key, value)| allowed.get(key) != Some(value)) {
            let cause = "pod node label selector labels conflict with its namespace whitelist";
            return Err(request.forbidden(Some(pod), cause));
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for PodNodeSelector {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.creates_pod()
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let wanted = self.wanted(request).await?;
        let conflict = own(pod).iter().any(|(key, value)| wanted.get(key).is_some_and(|other| other != value));
        if !conflict {
            for (key, value) in &wanted {
                pod.set(&["spec", "nodeSelector", key], json!(value));
            }
        }
        self.check(request, pod, &wanted)
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        self.check(request, pod, &self.wanted(request).await?)
    }
}
