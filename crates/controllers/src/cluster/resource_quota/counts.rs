//! How many objects of a resource there are in each namespace, followed for as long as a quota asks.

use std::time::Duration;

use client::{Client, Error, ListParams, Resource, WatchEvent, WatchParams};
use meta::GroupVersionResource;
use parking_lot::Mutex;
use rt::{Backoff, HashMap, HashSet};
use serde::Deserialize;

#[derive(Deserialize)]
struct Partial {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    namespace: String,
    uid: String,
    resource_version: String,
}

/// What changed in the counts.
pub(super) enum Change<'a> {
    /// All of them, by a list.
    Listed,
    /// An object is seen for the first time; the version of that.
    Appeared { namespace: &'a str, version: &'a str },
    /// An object is gone.
    Gone { namespace: &'a str },
}

/// The uids by namespace; `None` until the first list.
#[derive(Default)]
pub(super) struct Counts {
    by_namespace: Mutex<Option<HashMap<String, HashSet<String>>>>,
}

impl Counts {
    /// How many there are; `None` when that is not known yet.
    pub(super) fn of(&self, namespace: &str) -> Option<usize> {
        self.by_namespace.lock().as_ref().map(|all| all.get(namespace).map_or(0, HashSet::len))
    }

    /// Whether it was not there before.
    fn insert(&self, metadata: &Metadata) -> bool {
        let mut all = self.by_namespace.lock();
        let all = all.get_or_insert_default();
        all.entry(metadata.namespace.clone()).or_default().insert(metadata.uid.clone())
    }

    fn remove(&self, metadata: &Metadata) {
        if let Some(all) = self.by_namespace.lock().as_mut()
            && let Some(uids) = all.get_mut(&metadata.namespace)
        {
            uids.remove(&metadata.uid);
            if uids.is_empty() {
                all.remove(&metadata.namespace);
            }
        }
    }

    /// Follows the resource for ever; `changed` is told of each change after it is counted.
    pub(super) async fn follow(&self, client: &Client, gvr: &GroupVersionResource, changed: impl Fn(Change<'_>)) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).with_jitter(0.2);
        loop {
            match self.list_and_watch(client, gvr, &changed, &mut backoff).await {
                Ok(()) => {}
                Err(error) => tracing::debug!(resource = %gvr, error = error.chain(), "quota watch ended"),
            }
            rt::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn list_and_watch(
        &self,
        client: &Client,
        gvr: &GroupVersionResource,
        changed: &impl Fn(Change<'_>),
        backoff: &mut Backoff,
    ) -> Result<(), Error> {
        let of = Resource { gvr, namespace: None };
        let params = ListParams { metadata_only: true, ..ListParams::default() };
        let list = client.list_as::<Partial>(&of, &params).await?;
        let mut all: HashMap<String, HashSet<String>> = HashMap::default();
        for item in list.items {
            all.entry(item.metadata.namespace).or_default().insert(item.metadata.uid);
        }
        *self.by_namespace.lock() = Some(all);
        changed(Change::Listed);
        let mut version = list.resource_version;
        loop {
            let params = WatchParams {
                resource_version: version.clone(),
                timeout_seconds: 300 + rt::rand::below(300),
                metadata_only: true,
                ..WatchParams::default()
            };
            let mut stream = client.watch_raw::<Partial>(&of, &params).await?;
            while let Some(event) = stream.next().await? {
                backoff.reset();
                match event {
                    WatchEvent::Added(item) | WatchEvent::Modified(item) => {
                        version.clone_from(&item.metadata.resource_version);
                        if self.insert(&item.metadata) {
                            let of = &item.metadata;
                            changed(Change::Appeared { namespace: &of.namespace, version: &of.resource_version });
                        }
                    }
                    WatchEvent::Deleted(item) => {
                        version.clone_from(&item.metadata.resource_version);
                        self.remove(&item.metadata);
                        changed(Change::Gone { namespace: &item.metadata.namespace });
                    }
                    WatchEvent::Bookmark { resource_version, .. } => version = resource_version,
                }
            }
        }
    }
}
