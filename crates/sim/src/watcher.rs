//! A client that watches pods and remembers what it was told.

use std::sync::Arc;

use client::{Client, ListParams, Resource, WatchEvent, WatchParams};
use meta::GroupVersionResource;
use parking_lot::Mutex;
use rt::Shutdown;
use serde_json::Value;

use crate::model::Model;
use crate::tree::text;

/// Pauses between tries.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(300);

/// Revisions that a watch told of, from a version on.
pub struct Stretch {
    from: i64,
    got: Vec<i64>,
}

/// What the watcher was told.
#[derive(Default)]
pub struct Told(Mutex<Vec<Stretch>>);

impl Told {
    /// Compares it with the log.
    pub fn check(&self, model: &mut Model) -> usize {
        let stretches = self.0.lock();
        stretches.iter().for_each(|stretch| model.check_watch(stretch.from, &stretch.got));
        stretches.iter().map(|stretch| stretch.got.len()).sum()
    }
}

fn version(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

/// Watches until told to stop: goes on from where a watch broke, and lists again when that is too old.
pub async fn watch(client: Client, told: Arc<Told>, shutdown: Shutdown) {
    shutdown
        .run(async move {
            loop {
                let gvr = GroupVersionResource::new("", "v1", "pods");
                let of = Resource { gvr: &gvr, namespace: None };
                let Ok(list) = client.list_as::<Value>(&of, &ListParams::default()).await else {
                    rt::time::sleep(PAUSE).await;
                    continue;
                };
                let from = version(&list.resource_version);
                told.0.lock().push(Stretch { from, got: Vec::new() });
                follow(&client, &of, &told, list.resource_version).await;
            }
        })
        .await;
}

/// Follows until the version is too old.
async fn follow(client: &Client, of: &Resource<'_>, told: &Told, mut at: String) {
    loop {
        let params = WatchParams { resource_version: at.clone(), ..WatchParams::default() };
        let mut stream = match client.watch_raw::<Value>(of, &params).await {
            Ok(stream) => stream,
            Err(error) if error.is_expired() => return,
            Err(_) => {
                rt::time::sleep(PAUSE).await;
                continue;
            }
        };
        loop {
            match stream.next().await {
                Ok(Some(WatchEvent::Bookmark { resource_version, .. })) => at = resource_version,
                Ok(Some(WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o))) => {
                    text(&o, "/metadata/resourceVersion").clone_into(&mut at);
                    if let Some(stretch) = told.0.lock().last_mut() {
                        stretch.got.push(version(&at));
                    }
                }
                Err(error) if error.is_expired() => return,
                Ok(None) | Err(_) => break,
            }
        }
        rt::time::sleep(PAUSE).await;
    }
}
