//! The file's form.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Configuration, ExtenderConfig, InvalidConfiguration, LeaderElection, PluginSet, ProfileConfig};
use crate::registry::POINTS;

const API_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code, reason = "read and checked, but of no effect here")]
struct File {
    api_version: String,
    kind: String,
    parallelism: Option<i32>,
    leader_election: Option<Leader>,
    client_connection: Option<Connection>,
    enable_profiling: Option<bool>,
    enable_contention_profiling: Option<bool>,
    percentage_of_nodes_to_score: Option<i32>,
    pod_initial_backoff_seconds: Option<i64>,
    pod_max_backoff_seconds: Option<i64>,
    #[serde(default)]
    profiles: Vec<Profile>,
    #[serde(default)]
    extenders: Vec<ExtenderConfig>,
    #[serde(default)]
    delay_cache_until_active: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code, reason = "the times of leases are the informer's")]
struct Leader {
    leader_elect: Option<bool>,
    lease_duration: Option<String>,
    renew_deadline: Option<String>,
    retry_period: Option<String>,
    resource_lock: Option<String>,
    resource_name: Option<String>,
    resource_namespace: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code, reason = "requests are not limited by rate, and their encoding is the client's")]
struct Connection {
    kubeconfig: Option<String>,
    accept_content_types: Option<String>,
    content_type: Option<String>,
    qps: Option<f64>,
    burst: Option<i32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Profile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i32>,
    #[serde(default)]
    plugins: BTreeMap<String, PluginSet>,
    #[serde(default)]
    plugin_config: Vec<PluginConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: Value,
}

pub(super) fn default_extender_timeout() -> Duration {
    Duration::from_secs(5)
}

/// Reads a duration in Go's form: `1m30s`, `500ms`.
pub(super) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let factor = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let duration = go_duration(&text);
    let duration = duration.ok_or_else(|| serde::de::Error::custom(format!("invalid duration \"{text}\"")))?;
    Ok(if duration.is_zero() { default_extender_timeout() } else { duration })
}

/// Reads a plugin's weight, 32 bits as upstream's: sums of weighted scores stay within 64.
pub(super) fn weight<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    Ok(Option::<i32>::deserialize(from)?.map(i64::from))
}

fn profile(at: usize, only: bool, from: Profile) -> Result<ProfileConfig, InvalidConfiguration> {
    let path = format!("profiles[{at}]");
    let known = |name: &str| name == "multiPoint" || POINTS.iter().any(|(point, _)| *point == name);
    if let Some(name) = from.plugins.keys().find(|name| !known(name)) {
        let text = match name.as_str() {
            "placementGenerate" | "placementScore" => "this point is not served",
            _ => "unknown field",
        };
        return Err(InvalidConfiguration(format!("{path}.plugins.{name}: {text}")));
    }
    let mut args = BTreeMap::new();
    for (place, config) in from.plugin_config.into_iter().enumerate() {
        let path = format!("{path}.pluginConfig[{place}]");
        if args.contains_key(&config.name) {
            return Err(InvalidConfiguration(format!("{path}: Duplicate value: \"{}\"", config.name)));
        }
        super::validate::check_args(&path, &config.name, &config.args)?;
        args.insert(config.name, config.args);
    }
    let default = only.then(|| "default-scheduler".to_owned());
    let scheduler_name = from.scheduler_name.or(default).unwrap_or_default();
    let percentage = from.percentage_of_nodes_to_score;
    Ok(ProfileConfig { scheduler_name, percentage, plugins: from.plugins, args, path })
}

fn seconds(value: Option<i64>, default: u64, field: &str) -> Result<Duration, InvalidConfiguration> {
    let value = value.map_or(Ok(default), u64::try_from);
    let value = value.map_err(|_| InvalidConfiguration(format!("{field}: Invalid value: must not be negative")))?;
    Ok(Duration::from_secs(value))
}

pub(super) fn parse(text: &str) -> Result<Configuration, InvalidConfiguration> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|e| InvalidConfiguration(e.to_string()))?;
    if file.api_version != API_VERSION || file.kind != KIND {
        let text = format!(
            "no kind \"{}\" is registered for version \"{}\"; this scheduler reads {KIND} of {API_VERSION}",
            file.kind, file.api_version
        );
        return Err(InvalidConfiguration(text));
    }
    if file.parallelism.is_some_and(|p| p <= 0) {
        let text = "parallelism: Invalid value: should be an integer value greater than zero";
        return Err(InvalidConfiguration(text.to_owned()));
    }
    let only = file.profiles.len() == 1;
    let mut profiles = Vec::new();
    for (at, from) in file.profiles.into_iter().enumerate() {
        profiles.push(profile(at, only, from)?);
    }
    if profiles.is_empty() {
        profiles.push(ProfileConfig::default());
    }
    if let Some(lock) =
        file.leader_election.as_ref().and_then(|l| l.resource_lock.as_deref()).filter(|l| *l != "leases")
    {
        let text =
            format!("leaderElection.resourceLock: Invalid value: \"{lock}\": resourceLock value must be \"leases\"");
        return Err(InvalidConfiguration(text));
    }
    let leader_election = file.leader_election.map(|l| LeaderElection {
        leader_elect: l.leader_elect,
        resource_namespace: l.resource_namespace,
        resource_name: l.resource_name,
    });
    let kubeconfig = file.client_connection.and_then(|c| c.kubeconfig).filter(|path| !path.is_empty());
    Ok(Configuration {
        profiles,
        extenders: file.extenders,
        percentage: file.percentage_of_nodes_to_score,
        initial_backoff: seconds(file.pod_initial_backoff_seconds, 1, "podInitialBackoffSeconds")?,
        max_backoff: seconds(file.pod_max_backoff_seconds, 10, "podMaxBackoffSeconds")?,
        kubeconfig: kubeconfig.map(Into::into),
        leader_election: leader_election.unwrap_or_default(),
    })
}
