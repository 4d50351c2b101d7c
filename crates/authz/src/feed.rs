//! Keeps an index fed from a watch.

use std::sync::Arc;

use auth_api::{Lookup, ObjectEvent};
use futures::StreamExt;
use meta::selector::FieldSelector;
use meta::{GroupVersionResource, Object};
use tokio::sync::watch;

/// Something that follows the objects of one resource.
pub(crate) trait Follow: Send + Sync + 'static {
    /// These are all objects now.
    fn replace(&self, resource: &'static str, objects: &[Arc<Object>]);
    /// An object is new or changed.
    fn upsert(&self, resource: &'static str, object: &Object);
    /// An object is gone.
    fn delete(&self, resource: &'static str, object: &Object);
    /// The objects of a resource that are of interest.
    fn interest(&self, _resource: &'static str) -> FieldSelector {
        FieldSelector::default()
    }
}

/// Counts feeds that have seen the first full list, and changes.
#[derive(Clone)]
pub(crate) struct Progress {
    sender: Arc<watch::Sender<(usize, u64)>>,
    wanted: usize,
}

impl Progress {
    pub(crate) fn new(wanted: usize) -> Self {
        Self { sender: Arc::new(watch::Sender::new((0, 0))), wanted }
    }

    /// Waits until every feed has its first list.
    pub(crate) async fn synced(&self) {
        // The sender lives in self, so that waiting cannot fail.
        let _ = self.sender.subscribe().wait_for(|(synced, _)| *synced >= self.wanted).await;
    }

    /// Tells of changes from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<(usize, u64)> {
        self.sender.subscribe()
    }
}

/// Feeds `target` from a watch on one resource until the server stops.
pub(crate) fn feed(
    lookup: &Arc<dyn Lookup>,
    (group, version, resource): (&str, &str, &'static str),
    target: Arc<dyn Follow>,
    progress: Progress,
    shutdown: rt::Shutdown,
) {
    let mut events =
        lookup.watch_where(&GroupVersionResource::new(group, version, resource), target.interest(resource));
    let mut first = true;
    rt::spawn("authz-feed", async move {
        loop {
            let event = rt::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                None => return,
                Some(ObjectEvent::Replace(objects)) => target.replace(resource, &objects),
                Some(ObjectEvent::Upsert(object)) => target.upsert(resource, &object),
                Some(ObjectEvent::Delete(object)) => target.delete(resource, &object),
            }
            let newly_synced = std::mem::take(&mut first);
            progress.sender.send_modify(|(synced, changes)| {
                *synced += usize::from(newly_synced);
                *changes += 1;
            });
        }
    });
}
