//! Decisions on a cluster in memory, without an API server: what the cycle itself costs.

use std::sync::Arc;

use api::k8s::core::v1::{Node, Pod};
use async_trait::async_trait;
use client::{Body, Client, Transport, TransportError};
use informer::{Factory, Recorder};
use rt::Shutdown;

use crate::cache::Cache;
use crate::config::{Configuration, InvalidConfiguration, ProfileConfig};
use crate::cycle::Engine;
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

/// A scheduler without a server. Made inside a runtime.
pub struct Trial {
    cache: Cache,
    engine: Engine,
    profile: Profile,
}

impl Trial {
    /// A cluster of these nodes, scheduled by the default profile.
    ///
    /// # Errors
    /// The default profile cannot be made.
    pub fn new(nodes: impl IntoIterator<Item = Arc<Node>>) -> Result<Self, InvalidConfiguration> {
        let client = Client::new(Arc::new(Nowhere), "trial");
        let factory = Factory::new(client.clone());
        let (queue, nominator) = (Arc::new(Queue::default()), Arc::new(Nominator::default()));
        let handle = Handle {
            recorder: Recorder::start(client.clone(), "trial", None, Shutdown::new()),
            client,
            pods: factory.informer(),
            factory,
            profile: "trial".into(),
            queue,
            nominator: nominator.clone(),
            gates: features::Gates::default(),
            groups: Arc::default(),
            waiting: Arc::default(),
        };
        let profile = crate::registry::build(&ProfileConfig::default(), &handle)?;
        let mut cache = Cache::default();
        nodes.into_iter().for_each(|node| cache.upsert_node(node));
        let engine = Engine::new(nominator, Vec::new(), Configuration::default().percentage);
        Ok(Self { cache, engine, profile })
    }

    /// Decides on a pod and counts it on its node, as a cycle does.
    ///
    /// # Errors
    /// Why no node takes it.
    pub async fn place(&mut self, pod: Arc<Pod>) -> Result<Arc<str>, String> {
        let info = Arc::new(PodInfo::new(pod));
        self.cache.refresh(&mut self.engine.snapshot);
        let decided = self.engine.decide(&self.profile, &info).await;
        let decision = decided.map_err(|undecided| undecided.failure.message())?;
        let node = self.engine.snapshot.nodes()[decision.place].name.clone();
        self.cache.assume(info, &node);
        Ok(node)
    }

    /// The watch confirms that a pod is bound.
    pub fn confirm(&mut self, pod: &Arc<Pod>) {
        self.cache.upsert_pod(pod);
    }
}
