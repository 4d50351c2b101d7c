//! `KubeSchedulerConfiguration`, version `kubescheduler.config.k8s.io/v1`.
//!
//! A file is read strictly: an unknown field, a plugin that is not there or a value out of bounds is an error that names
//! the field.

pub(crate) mod args;
mod file;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use client::ConfigError;
use serde::Deserialize;
use serde_json::Value;

/// A configuration that cannot be used; the text names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfiguration(pub String);

/// A plugin in a set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginRef {
    /// Its name; `*` means all, when disabling.
    pub name: String,
    /// The weight of its score.
    #[serde(default, deserialize_with = "file::weight")]
    pub weight: Option<i64>,
}

/// The plugins of one point, as changes of the default ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginSet {
    /// Plugins to run.
    #[serde(default)]
    pub enabled: Vec<PluginRef>,
    /// Plugins of all points that are not to run here.
    #[serde(default)]
    pub disabled: Vec<PluginRef>,
}

impl PluginSet {
    pub(crate) fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|p| p.name == name)
    }
}

/// A profile as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileConfig {
    /// The `schedulerName` of pods that it schedules.
    pub scheduler_name: String,
    /// Percentage of nodes to score; goes before the scheduler's own.
    pub percentage: Option<i32>,
    /// Sets by the name of the point, `multiPoint` among them.
    pub plugins: BTreeMap<String, PluginSet>,
    /// Arguments by plugin.
    pub args: BTreeMap<String, Value>,
    /// Where it is in the file, for errors.
    pub(crate) path: String,
}

impl Default for ProfileConfig {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            percentage: None,
            plugins: BTreeMap::new(),
            args: BTreeMap::new(),
            path: "profiles[0]".to_owned(),
        }
    }
}

static NO_PLUGINS: PluginSet = PluginSet { enabled: Vec::new(), disabled: Vec::new() };

impl ProfileConfig {
    pub(crate) fn set(&self, point: &str) -> &PluginSet {
        self.plugins.get(point).unwrap_or(&NO_PLUGINS)
    }

    pub(crate) fn args_of(&self, plugin: &str) -> &Value {
        self.args.get(plugin).unwrap_or(&Value::Null)
    }

    pub(crate) fn invalid(&self, what: &str) -> InvalidConfiguration {
        InvalidConfiguration(format!("{}.{what}", self.path))
    }
}

/// TLS of an extender.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ExtenderTls {
    /// Accept any certificate.
    pub insecure: bool,
    /// Name to expect in the certificate.
    pub server_name: String,
    /// Client certificate.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
    /// Authorities to trust.
    #[serde(rename = "caFile")]
    pub ca_file: String,
    /// Client certificate in base64; goes before the file.
    pub cert_data: Option<String>,
    /// Its key.
    pub key_data: Option<String>,
    /// Authorities to trust.
    #[serde(rename = "caData")]
    pub ca_data: Option<String>,
}

/// A resource that an extender manages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ManagedResource {
    /// Its name.
    pub name: String,
    /// Leave it out of NodeResourcesFit.
    #[serde(default)]
    pub ignored_by_scheduler: bool,
}

/// An extender as configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExtenderConfig {
    /// Where it is.
    pub url_prefix: String,
    /// Appended to the prefix for filtering; empty when it does not.
    #[serde(default)]
    pub filter_verb: String,
    /// Likewise for preemption.
    #[serde(default)]
    pub preempt_verb: String,
    /// Likewise for scoring.
    #[serde(default)]
    pub prioritize_verb: String,
    /// The factor of its scores.
    #[serde(default)]
    pub weight: i64,
    /// Likewise for binding.
    #[serde(default)]
    pub bind_verb: String,
    /// Use TLS even without authorities to trust.
    #[serde(default, rename = "enableHTTPS")]
    pub enable_https: bool,
    /// TLS.
    #[serde(default)]
    pub tls_config: Option<ExtenderTls>,
    /// How long an answer may take.
    #[serde(default = "file::default_extender_timeout", rename = "httpTimeout", deserialize_with = "file::duration")]
    pub timeout: Duration,
    /// It knows the nodes: only names are sent.
    #[serde(default)]
    pub node_cache_capable: bool,
    /// Resources it manages; it is asked only about pods that request one. None means all pods.
    #[serde(default)]
    pub managed_resources: Vec<ManagedResource>,
    /// Failures of it are passed over.
    #[serde(default)]
    pub ignorable: bool,
}

/// Leader election as configured; what is not said is left to flags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaderElection {
    /// Whether to wait for the lease.
    pub leader_elect: Option<bool>,
    /// Namespace of the lease.
    pub resource_namespace: Option<String>,
    /// Name of the lease.
    pub resource_name: Option<String>,
}

/// A configuration that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// At least one.
    pub profiles: Vec<ProfileConfig>,
    /// Extenders, in the order that they are asked.
    pub extenders: Vec<ExtenderConfig>,
    /// Percentage of nodes to score; none and 0 mean by the cluster's size.
    pub percentage: Option<i32>,
    /// First time that a pod waits after it was not scheduled; doubles each time.
    pub initial_backoff: Duration,
    /// Longest time.
    pub max_backoff: Duration,
    /// The file of `clientConnection.kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// Leader election.
    pub leader_election: LeaderElection,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            profiles: vec![ProfileConfig::default()],
            extenders: Vec::new(),
            percentage: None,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            kubeconfig: None,
            leader_election: LeaderElection::default(),
        }
    }
}

impl Configuration {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or says what cannot be.
    pub fn load(path: &Path) -> Result<Self, InvalidConfiguration> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| InvalidConfiguration(format!("cannot read {}: {e}", path.display())))?;
        Self::parse(&text)
    }

    /// Parses a file's text.
    ///
    /// # Errors
    /// See [`Configuration::load`].
    pub fn parse(text: &str) -> Result<Self, InvalidConfiguration> {
        let configuration = file::parse(text)?;
        validate::check(&configuration)?;
        Ok(configuration)
    }

    /// Has NodeResourcesFit leave out what extenders manage alone (`ignoredByScheduler`).
    pub(crate) fn ignore_extenders_resources(&mut self) {
        let managed = self.extenders.iter().flat_map(|e| &e.managed_resources).filter(|r| r.ignored_by_scheduler);
        let names: Vec<Value> = managed.map(|r| Value::from(r.name.as_str())).collect();
        if names.is_empty() {
            return;
        }
        for profile in &mut self.profiles {
            let args = profile.args.entry("NodeResourcesFit".to_owned()).or_insert(Value::Null);
            if args.is_null() {
                *args = Value::Object(serde_json::Map::new());
            }
            if let Some(args) = args.as_object_mut() {
                let ignored = args.entry("ignoredResources").or_insert_with(|| Value::Array(Vec::new()));
                ignored.as_array_mut().into_iter().for_each(|list| list.extend(names.iter().cloned()));
            }
        }
    }
}

/// Decodes base64, as Go prints bytes.
pub(crate) fn base64(text: &str) -> Result<Vec<u8>, ConfigError> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    decoded.map_err(|e| ConfigError::Invalid(format!("extenders: tlsConfig: not base64: {e}")))
}

#[cfg(test)]
mod tests;
