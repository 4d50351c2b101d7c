//! Webhook configurations as the plugins use them.

use std::sync::Arc;

use celx::admission::Has;
use meta::{GroupVersionResource, Object, Status};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::matching::{Criteria, selector};
use crate::plugin::Request;
use crate::policy::Conditions;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub(crate) api_groups: Vec<String>,
    pub(crate) api_versions: Vec<String>,
    pub(crate) operations: Vec<String>,
    pub(crate) resources: Vec<String>,
    pub(crate) scope: Option<String>,
    /// Of policies only; none for all names.
    pub(crate) resource_names: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ServiceRef {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) port: Option<u16>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ClientConfig {
    pub(super) url: Option<String>,
    pub(super) service: Option<ServiceRef>,
    pub(super) ca_bundle: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    name: String,
    client_config: ClientConfig,
    rules: Option<Vec<Rule>>,
    failure_policy: Option<String>,
    match_policy: Option<String>,
    namespace_selector: Option<Value>,
    object_selector: Option<Value>,
    side_effects: Option<String>,
    timeout_seconds: Option<u64>,
    admission_review_versions: Option<Vec<String>>,
    reinvocation_policy: Option<String>,
    match_conditions: Option<Vec<Value>>,
}

/// One webhook.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    /// Configuration, index and name: unique.
    pub(super) uid: String,
    pub(super) configuration: String,
    pub(super) name: String,
    pub(super) client: ClientConfig,
    pub(super) criteria: Criteria,
    pub(super) fail_open: bool,
    pub(super) dry_run_safe: bool,
    pub(super) timeout_seconds: u64,
    pub(super) versions: Vec<String>,
    pub(super) reinvoke: bool,
    pub(super) conditions: Conditions,
}

impl Hook {
    fn new(configuration: &str, index: usize, raw: Raw) -> Self {
        let is = |value: &Option<String>, wanted: &str| value.as_deref() == Some(wanted);
        Self {
            uid: format!("{configuration}/{}/{index}", raw.name),
            configuration: configuration.to_owned(),
            fail_open: is(&raw.failure_policy, "Ignore"),
            criteria: Criteria {
                rules: raw.rules.unwrap_or_default(),
                exclude: Vec::new(),
                equivalent: !is(&raw.match_policy, "Exact"),
                namespace_selector: selector(raw.namespace_selector.as_ref()),
                object_selector: selector(raw.object_selector.as_ref()),
            },
            dry_run_safe: is(&raw.side_effects, "None") || is(&raw.side_effects, "NoneOnDryRun"),
            timeout_seconds: raw.timeout_seconds.unwrap_or(10),
            versions: raw.admission_review_versions.unwrap_or_default(),
            reinvoke: is(&raw.reinvocation_policy, "IfNeeded"),
            conditions: Conditions::compile(
                &raw.match_conditions.unwrap_or_default(),
                Has { authorizer: true, ..Has::default() },
            ),
            client: raw.client_config,
            name: raw.name,
        }
    }
}

type Parsed = (Vec<(String, String)>, Arc<Vec<Hook>>);

/// The hooks of all configurations of one kind, parsed once per version.
pub(super) struct Hooks {
    resource: &'static str,
    parsed: Mutex<Parsed>,
}

fn parse(configuration: &Object) -> Vec<Hook> {
    let list = configuration.body.get("webhooks").and_then(Value::as_array);
    let raws = list.into_iter().flatten().map(|value| serde_json::from_value::<Raw>(value.clone()));
    raws.enumerate()
        .filter_map(|(index, raw)| match raw {
            Ok(raw) => Some(Hook::new(configuration.name(), index, raw)),
            Err(error) => {
                tracing::error!(configuration = configuration.name(), index, %error, "webhook not understood");
                None
            }
        })
        .collect()
}

impl Hooks {
    pub(super) fn new(resource: &'static str) -> Self {
        Self { resource, parsed: Mutex::default() }
    }

    /// All hooks, by configuration name and then in their order.
    pub(super) async fn all(&self, request: &Request<'_>) -> Result<Arc<Vec<Hook>>, Status> {
        let gvr = GroupVersionResource::new("admissionregistration.k8s.io", "v1", self.resource);
        let mut configurations = request.deps.api.list(&gvr, "").await?;
        configurations.sort_by(|a, b| a.name().cmp(b.name()));
        let versions: Vec<(String, String)> =
            configurations.iter().map(|c| (c.uid().to_owned(), c.resource_version().to_owned())).collect();
        let mut parsed = self.parsed.lock();
        if parsed.0 != versions {
            let hooks = configurations.iter().flat_map(|c| parse(c)).collect();
            *parsed = (versions, Arc::new(hooks));
        }
        Ok(parsed.1.clone())
    }
}
