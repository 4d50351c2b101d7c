//! One resource, watched for its metadata into the graph.

use std::sync::Arc;
use std::time::Duration;

use client::{Error, ListParams, Resource, WatchEvent, WatchParams};
use meta::{GroupVersionKind, OwnerReference};
use rt::{Backoff, Shutdown};
use serde::Deserialize;

use super::Collector;
use super::graph::{Identity, Observed};
use crate::discovery::Served;

#[derive(Deserialize)]
struct Partial {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

struct Monitor {
    collector: Arc<Collector>,
    served: Served,
    api_version: String,
}

/// Follows the resource until told to stop.
pub(super) async fn run(collector: Arc<Collector>, served: Served, shutdown: Shutdown) {
    let gvk = GroupVersionKind::new(&*served.gvr.group, &*served.gvr.version, &*served.kind);
    let monitor = Monitor { collector, served, api_version: gvk.api_version() };
    shutdown.run(async move { monitor.follow_for_ever().await }).await;
}

impl Monitor {
    async fn follow_for_ever(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).with_jitter(0.2);
        loop {
            match self.list().await {
                Ok(version) => {
                    if let Err(error) = self.watch(version, &mut backoff).await {
                        tracing::debug!(resource = %self.served.gvr, error = error.chain(), "gc watch ended");
                    }
                }
                Err(error) => {
                    tracing::debug!(resource = %self.served.gvr, error = error.chain(), "gc cannot list");
                }
            }
            rt::time::sleep(backoff.next_delay()).await;
        }
    }

    fn observed(&self, metadata: Metadata) -> Observed {
        Observed {
            identity: Identity {
                api_version: self.api_version.clone(),
                kind: self.served.kind.clone(),
                namespace: metadata.namespace,
                name: metadata.name,
                uid: metadata.uid,
            },
            owners: metadata.owner_references.unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.unwrap_or_default(),
        }
    }

    async fn list(&self) -> Result<String, Error> {
        let of = Resource { gvr: &self.served.gvr, namespace: None };
        let params = ListParams { metadata_only: true, ..ListParams::default() };
        let list = self.collector.client.list_as::<Partial>(&of, &params).await?;
        let mut gone = self.collector.graph.lock().uids_of(&self.api_version, &self.served.kind);
        for item in list.items {
            gone.remove(&item.metadata.uid);
            self.collector.observe(|graph| graph.upsert(self.observed(item.metadata)));
        }
        for uid in gone {
            self.collector.observe(|graph| graph.remove(&uid));
        }
        self.collector.listed(&self.served.gvr);
        Ok(list.resource_version)
    }

    /// Follows watches one after another until the version is too old or the connection breaks.
    async fn watch(&self, mut version: String, backoff: &mut Backoff) -> Result<(), Error> {
        let of = Resource { gvr: &self.served.gvr, namespace: None };
        loop {
            let params = WatchParams {
                resource_version: version.clone(),
                timeout_seconds: 300 + rt::rand::below(300),
                metadata_only: true,
                ..WatchParams::default()
            };
            let mut stream = self.collector.client.watch_raw::<Partial>(&of, &params).await?;
            while let Some(event) = stream.next().await? {
                backoff.reset();
                match event {
                    WatchEvent::Added(item) | WatchEvent::Modified(item) => {
                        version.clone_from(&item.metadata.resource_version);
                        self.collector.observe(|graph| graph.upsert(self.observed(item.metadata)));
                    }
                    WatchEvent::Deleted(item) => {
                        version.clone_from(&item.metadata.resource_version);
                        self.collector.observe(|graph| graph.remove(&item.metadata.uid));
                    }
                    WatchEvent::Bookmark { resource_version, .. } => version = resource_version,
                }
            }
        }
    }
}
