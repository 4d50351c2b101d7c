//! What tests of several modules need: nodes, pods, a cluster, and decisions on it.

use std::sync::Arc;

use api::k8s::core::v1::{Node, Pod};
use async_trait::async_trait;
use client::{Body, Client, Transport, TransportError};
use informer::{Factory, Recorder};
use rt::Shutdown;
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::config::{Configuration, ProfileConfig};
use crate::cycle::{Decision, Engine, Undecided};
use crate::handle::Handle;
use crate::nominator::Nominator;
use crate::pod_info::PodInfo;
use crate::profile::Profile;
use crate::queue::Queue;

/// No server.
struct Nowhere;

#[async_trait]
impl Transport for Nowhere {
    async fn send(&self, _: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        Err(TransportError::new("connect", "there is no server"))
    }
}

pub(crate) fn node(name: &str, cpu: &str, labels: &Value, spec: &Value) -> Arc<Node> {
    let mut all = json!({"kubernetes.io/hostname": name});
    for (key, value) in labels.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    let value = json!({
        "metadata": {"name": name, "labels": all},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

pub(crate) fn pod(name: &str, labels: &Value, spec: &Value) -> Arc<PodInfo> {
    let mut whole = json!({"containers": [{"name": "c"}]});
    for (key, value) in spec.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels}, "spec": whole,
    }))
    .unwrap();
    Arc::new(PodInfo::new(Arc::new(pod)))
}

pub(crate) fn requesting(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

/// What plugins are given, without a server.
pub(crate) fn handle() -> Handle {
    let client = Client::new(Arc::new(Nowhere), "test");
    let factory = Factory::new(client.clone());
    Handle {
        recorder: Recorder::start(client.clone(), "test", None, Shutdown::new()),
        client,
        pods: factory.informer(),
        factory,
        profile: "test".into(),
        queue: Arc::new(Queue::default()),
        nominator: Arc::new(Nominator::default()),
        gates: features::Gates::default(),
        groups: Arc::default(),
        waiting: Arc::default(),
    }
}

/// A scheduler without a server.
pub(crate) struct Bench {
    pub(crate) cache: Cache,
    pub(crate) engine: Engine,
    pub(crate) profile: Profile,
}

impl Bench {
    pub(crate) fn new(nodes: impl IntoIterator<Item = Arc<Node>>) -> Self {
        Self::configured(nodes, &ProfileConfig::default())
    }

    pub(crate) fn configured(nodes: impl IntoIterator<Item = Arc<Node>>, config: &ProfileConfig) -> Self {
        let handle = handle();
        let nominator = handle.nominator.clone();
        let profile = crate::registry::build(config, &handle).unwrap();
        let mut cache = Cache::default();
        nodes.into_iter().for_each(|node| cache.upsert_node(node));
        let engine = Engine::new(nominator, Vec::new(), Configuration::default().percentage);
        Self { cache, engine, profile }
    }

    pub(crate) async fn decide(&mut self, pod: &Arc<PodInfo>) -> Result<Decision, Undecided> {
        self.cache.refresh(&mut self.engine.snapshot);
        self.engine.decide(&self.profile, pod).await
    }

    /// The node's name, or why there is none.
    pub(crate) async fn place(&mut self, pod: &Arc<PodInfo>) -> Result<String, String> {
        match self.decide(pod).await {
            Ok(decision) => Ok(self.engine.snapshot.nodes()[decision.place].name.to_string()),
            Err(undecided) => Err(undecided.failure.message()),
        }
    }
}
