//! Extenders: servers that are asked over HTTP, upstream's `kube-scheduler/extender/v1`.
//!
//! An extender that hangs is given up after its timeout; what it answers about nodes that it was not asked about is an
//! error. Failures of an ignorable extender are passed over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use bytes::Bytes;
use client::{Client, ConfigError, HttpTransport, TlsIdentity};
use http::Method;
use rt::{HashMap, HashSet};
use serde_json::{Map, Value, json};

use crate::config::ExtenderConfig;
use crate::framework::{MAX_NODE_SCORE, Status};
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

/// Highest score that an extender gives.
const MAX_EXTENDER_PRIORITY: i64 = 10;

/// One extender.
pub struct Extender {
    client: Client,
    config: ExtenderConfig,
    managed: HashSet<String>,
    timeout: Duration,
}

/// The pods to evict from a node, by uid, and how many budgets that violates.
pub(crate) type Victims = (Vec<String>, i64);

fn file(path: &str) -> Result<Option<Vec<u8>>, ConfigError> {
    if path.is_empty() {
        return Ok(None);
    }
    let read = std::fs::read(path);
    read.map(Some).map_err(|e| ConfigError::Invalid(format!("extenders: tlsConfig: cannot read {path:?}: {e}")))
}

impl Extender {
    /// An extender as configured.
    ///
    /// # Errors
    /// Its URL or TLS material is malformed.
    pub(crate) fn new(config: &ExtenderConfig) -> Result<Self, ConfigError> {
        let tls = config.tls_config.clone().unwrap_or_default();
        let given = |data: &Option<String>, path: &str| -> Result<Option<Vec<u8>>, ConfigError> {
            match data {
                Some(text) => Ok(Some(crate::config::base64(text)?)),
                None => file(path),
            }
        };
        let ca_pem = given(&tls.ca_data, &tls.ca_file)?;
        let identity = TlsIdentity {
            insecure: tls.insecure || (config.enable_https && ca_pem.is_none()),
            ca_pem,
            cert_pem: given(&tls.cert_data, &tls.cert_file)?,
            key_pem: given(&tls.key_data, &tls.key_file)?,
            server_name: Some(tls.server_name).filter(|name| !name.is_empty()),
        };
        let transport = HttpTransport::new(&config.url_prefix, &identity, None)?;
        Ok(Self {
            client: Client::new(Arc::new(transport), "kube-scheduler"),
            managed: config.managed_resources.iter().map(|r| r.name.clone()).collect(),
            timeout: config.timeout,
            config: config.clone(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.config.url_prefix
    }

    pub(crate) fn ignorable(&self) -> bool {
        self.config.ignorable
    }

    pub(crate) fn filters(&self) -> bool {
        !self.config.filter_verb.is_empty()
    }

    pub(crate) fn prioritizes(&self) -> bool {
        !self.config.prioritize_verb.is_empty()
    }

    pub(crate) fn binds(&self) -> bool {
        !self.config.bind_verb.is_empty()
    }

    pub(crate) fn preempts(&self) -> bool {
        !self.config.preempt_verb.is_empty()
    }

    /// Whether the pod asks for something that the extender manages; one that manages nothing is asked about all pods.
    pub(crate) fn is_interested(&self, pod: &PodInfo) -> bool {
        let Some(spec) = pod.pod.spec.as_ref().filter(|_| !self.managed.is_empty()) else {
            return self.managed.is_empty();
        };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let mut lists = containers.filter_map(|c| c.resources.as_ref()).flat_map(|r| [&r.requests, &r.limits]);
        lists.any(|list| list.iter().flatten().any(|(name, _)| self.managed.contains(name)))
    }

    async fn send(&self, verb: &str, arguments: &Value) -> Result<Value, String> {
        let path = format!("/{verb}");
        let payload = Bytes::from(arguments.to_string());
        let call = self.client.call(Method::POST, &path, Some("application/json"), payload);
        let answer = rt::time::timeout(self.timeout, call).await;
        let answer = answer.map_err(|_| format!("extender {}: no answer in {:?}", self.name(), self.timeout))?;
        let bytes = answer.map_err(|e| format!("failed {verb} with extender at URL {}: {}", self.name(), e.chain()))?;
        serde_json::from_slice(&bytes).map_err(|e| format!("extender {}: {verb}: bad answer: {e}", self.name()))
    }

    /// An answer that is an object.
    async fn ask(&self, verb: &str, arguments: &Value) -> Result<Value, String> {
        let answer = self.send(verb, arguments).await?;
        match answer.is_object() {
            true => Ok(answer),
            false => Err(format!("extender {}: {verb}: bad answer: not an object", self.name())),
        }
    }

    fn arguments(&self, pod: &PodInfo, places: &[usize], snapshot: &Snapshot) -> Value {
        let nodes = places.iter().map(|at| &snapshot.nodes()[*at]);
        if self.config.node_cache_capable {
            let names: Vec<&str> = nodes.map(|n| &*n.name).collect();
            json!({"Pod": &*pod.pod, "Nodes": null, "NodeNames": names})
        } else {
            let items: Vec<Value> = nodes.map(|n| json!(&*n.node)).collect();
            json!({"Pod": &*pod.pod, "Nodes": {"metadata": {}, "items": items}, "NodeNames": null})
        }
    }

    /// The nodes that the extender lets through, and why not the others.
    ///
    /// # Errors
    /// It cannot be asked, or names nodes that it was not asked about.
    #[allow(clippy::type_complexity, reason = "what is left, and what is not")]
    pub(crate) async fn filter(
        &self,
        pod: &PodInfo,
        places: &[usize],
        snapshot: &Snapshot,
    ) -> Result<(Vec<usize>, Vec<(usize, Status)>), String> {
        let answer = self.ask(&self.config.filter_verb, &self.arguments(pod, places, snapshot)).await?;
        if let Some(error) = answer["Error"].as_str().filter(|e| !e.is_empty()) {
            return Err(error.to_owned());
        }
        let known: HashMap<&str, usize> = places.iter().map(|at| (&*snapshot.nodes()[*at].name, *at)).collect();
        let names: Vec<&str> = match (answer["NodeNames"].as_array(), answer["Nodes"]["items"].as_array()) {
            (Some(names), _) if self.config.node_cache_capable => names.iter().filter_map(Value::as_str).collect(),
            (_, Some(nodes)) => nodes.iter().filter_map(|n| n["metadata"]["name"].as_str()).collect(),
            _ => Vec::new(),
        };
        let mut left = Vec::new();
        for name in names {
            left.push(*known.get(name).ok_or_else(|| {
                let url = self.name();
                format!(
                    "extender \"{url}\" claims a filtered node \"{name}\" which is not found in the input node list"
                )
            })?);
        }
        let mut rejected: BTreeMap<usize, Status> = BTreeMap::new();
        let empty = Map::new();
        for (name, why) in answer["FailedNodes"].as_object().unwrap_or(&empty) {
            if let Some(at) = known.get(name.as_str()) {
                rejected.insert(*at, Status::unschedulable(why.as_str().unwrap_or_default().to_owned()));
            }
        }
        for (name, why) in answer["FailedAndUnresolvableNodes"].as_object().unwrap_or(&empty) {
            if let Some(at) = known.get(name.as_str()) {
                rejected.insert(*at, Status::unresolvable(why.as_str().unwrap_or_default().to_owned()));
            }
        }
        Ok((left, rejected.into_iter().collect()))
    }

    /// Adds the extender's scores. An extender that fails here is passed over, as upstream does.
    pub(crate) async fn prioritize(&self, pod: &PodInfo, places: &[usize], snapshot: &Snapshot, totals: &mut [i64]) {
        let answer = self.send(&self.config.prioritize_verb, &self.arguments(pod, places, snapshot)).await;
        let scores = match answer {
            Ok(Value::Array(scores)) => scores,
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::warn!(extender = self.name(), error, "extender gave no scores");
                return;
            }
        };
        let by_host: HashMap<&str, i64> =
            scores.iter().filter_map(|s| Some((s["Host"].as_str()?, s["Score"].as_i64()?))).collect();
        for (total, place) in totals.iter_mut().zip(places) {
            let score = by_host.get(&*snapshot.nodes()[*place].name).copied().unwrap_or(0);
            let factor = self.config.weight.saturating_mul(MAX_NODE_SCORE / MAX_EXTENDER_PRIORITY);
            *total = total.saturating_add(score.saturating_mul(factor));
        }
    }

    /// Binds a pod.
    ///
    /// # Errors
    /// It cannot be asked, or says why not.
    pub(crate) async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), String> {
        let arguments = json!({
            "PodName": pod.pod.name(), "PodNamespace": pod.pod.namespace(), "PodUID": pod.uid, "Node": node,
        });
        let answer = self.ask(&self.config.bind_verb, &arguments).await?;
        match answer["Error"].as_str() {
            Some(error) if !error.is_empty() => Err(error.to_owned()),
            _ => Ok(()),
        }
    }

    /// The candidates for preemption that the extender lets through, by node.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) async fn preempt(
        &self,
        pod: &PodInfo,
        candidates: &[(String, Vec<Arc<PodInfo>>, i64)],
    ) -> Result<HashMap<String, Victims>, String> {
        let mut by_node = Map::new();
        for (node, victims, violations) in candidates {
            let pods: Vec<Value> = victims
                .iter()
                .map(|v| if self.config.node_cache_capable { json!({"UID": v.uid}) } else { json!(&*v.pod) })
                .collect();
            by_node.insert(node.clone(), json!({"Pods": pods, "NumPDBViolations": violations}));
        }
        let field = if self.config.node_cache_capable { "NodeNameToMetaVictims" } else { "NodeNameToVictims" };
        let answer = self.ask(&self.config.preempt_verb, &json!({"Pod": &*pod.pod, field: by_node})).await?;
        let mut left = HashMap::default();
        for (node, victims) in answer["NodeNameToMetaVictims"].as_object().into_iter().flatten() {
            let pods = victims["Pods"].as_array().into_iter().flatten();
            let uids = pods.filter_map(|p| p["UID"].as_str().map(str::to_owned)).collect();
            left.insert(node.clone(), (uids, victims["NumPDBViolations"].as_i64().unwrap_or(0)));
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests;
