//! All kinds' storage in one place.

use std::collections::BTreeMap;
use std::sync::Arc;

use meta::{GroupResource, GroupVersionKind, Object, Status};
use parking_lot::RwLock;
use rt::Shutdown;
use store::Store;

use crate::admit::{Admit, AdmitAll};
use crate::resource::Resource;
use crate::row::KindRow;
use crate::seal::{Sealed, Sealer};

/// The storage of every kind, by group and resource; rows may come and go while it runs (custom resources).
pub struct Registry {
    store: Arc<dyn Store>,
    shutdown: Shutdown,
    resources: RwLock<BTreeMap<(String, String), Arc<Resource>>>,
    admit: RwLock<Arc<dyn Admit>>,
    sealer: Option<Arc<dyn Sealer>>,
    generation: rt::sync::watch::Sender<u64>,
}

impl Registry {
    /// An empty registry over a store; everything is admitted until [`Registry::set_admit`].
    pub fn new(store: Arc<dyn Store>, shutdown: Shutdown) -> Arc<Self> {
        Self::with_sealer(store, shutdown, None)
    }

    /// As [`Registry::new`], with values encrypted at rest.
    pub fn with_sealer(store: Arc<dyn Store>, shutdown: Shutdown, sealer: Option<Arc<dyn Sealer>>) -> Arc<Self> {
        Arc::new(Self {
            store,
            shutdown,
            sealer,
            resources: RwLock::default(),
            admit: RwLock::new(Arc::new(AdmitAll)),
            generation: rt::sync::watch::Sender::new(0),
        })
    }

    /// The store below, for readiness checks and compaction.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Adds or replaces a row. Replacing keeps the watch cache when key prefix and media stay the same kind of thing; watches
    /// on the old row go on until their clients come back.
    pub fn add(&self, row: KindRow) -> Arc<Resource> {
        let key = (row.group.clone(), row.plural.clone());
        let sealed = self.sealer.as_ref().map(|sealer| {
            // What events.k8s.io serves is stored, and named in configurations, as core events.
            let group = if row.group == "events.k8s.io" { "" } else { &row.group };
            let named = GroupResource::new(group, row.plural.clone());
            Arc::new(Sealed::new(self.store.clone(), sealer.clone(), named))
        });
        let resource = Arc::new(Resource::new(Arc::new(row), self.store.clone(), sealed, self.shutdown.child()));
        let old = self.resources.write().insert(key, resource.clone());
        if let Some(old) = old {
            old.stop();
        }
        self.generation.send_modify(|g| *g += 1);
        resource
    }

    /// Removes a row; its watches end.
    pub fn remove(&self, group: &str, plural: &str) {
        let old = self.resources.write().remove(&(group.to_owned(), plural.to_owned()));
        if let Some(old) = old {
            old.stop();
            self.generation.send_modify(|g| *g += 1);
        }
    }

    /// The storage of a resource.
    pub fn get(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.resources.read().get(&(group.to_owned(), plural.to_owned())).cloned()
    }

    /// The storage of a resource that must be there.
    ///
    /// # Errors
    /// 500: the row is missing.
    pub fn need(&self, group: &str, plural: &str) -> Result<Arc<Resource>, Status> {
        self.get(group, plural)
            .ok_or_else(|| Status::internal(format!("resource {plural:?} of group {group:?} is not served")))
    }

    /// The storage of a kind.
    pub fn by_kind(&self, gvk: &GroupVersionKind) -> Option<Arc<Resource>> {
        let all = self.resources.read();
        all.values().find(|r| r.row.group == gvk.group && r.row.kind == gvk.kind).cloned()
    }

    /// All resources, by group and name.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.resources.read().values().cloned().collect()
    }

    /// Counts up whenever a row is added or removed; discovery is rebuilt then.
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Follows [`Registry::generation`].
    pub fn subscribe(&self) -> rt::sync::watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Sets the admission chain.
    pub fn set_admit(&self, admit: Arc<dyn Admit>) {
        *self.admit.write() = admit;
    }

    /// The admission chain.
    pub fn admit(&self) -> Arc<dyn Admit> {
        self.admit.read().clone()
    }

    /// Reads an object of any kind as a tree in its hub version.
    ///
    /// # Errors
    /// 404, or the store failed.
    pub async fn get_object(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Result<Object, Status> {
        self.need(group, plural)?.get_object(namespace, name).await
    }
}
