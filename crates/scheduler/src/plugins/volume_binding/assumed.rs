//! A cache with what was decided but is not written yet.

use std::sync::Arc;

use api::Kind;
use informer::Informer;
use parking_lot::Mutex;
use rt::HashMap;

/// Objects of a kind; an assumed state of one holds until a newer one than it was made from comes from the API server.
pub(super) struct Assumed<T> {
    informer: Informer<T>,
    assumed: Mutex<HashMap<String, Arc<T>>>,
}

/// The order of versions of one object.
pub(super) fn version<T: Kind>(object: &T) -> u64 {
    object.resource_version().parse().unwrap_or(0)
}

impl<T: Kind> Assumed<T> {
    pub(super) fn new(informer: Informer<T>) -> Self {
        Self { informer, assumed: Mutex::default() }
    }

    /// The assumed state of an object if there is one, else what is known.
    pub(super) fn get(&self, key: &str) -> Option<Arc<T>> {
        let known = self.informer.cache().get_key(key);
        let mut assumed = self.assumed.lock();
        let Some(state) = assumed.get(key) else { return known };
        match known {
            Some(known) if known.uid() == state.uid() && version(&*known) <= version(&**state) => Some(state.clone()),
            known => {
                assumed.remove(key);
                known
            }
        }
    }

    /// All objects, in their assumed states.
    pub(super) fn list(&self) -> Vec<Arc<T>> {
        let mut all = self.informer.cache().list();
        if !self.assumed.lock().is_empty() {
            for object in &mut all {
                if let Some(state) = self.get(&object.key()) {
                    *object = state;
                }
            }
        }
        all
    }

    /// What the API server last said.
    pub(super) fn known(&self, key: &str) -> Option<Arc<T>> {
        self.informer.cache().get_key(key)
    }

    pub(super) fn assume(&self, state: Arc<T>) {
        self.assumed.lock().insert(state.key(), state);
    }

    /// Forgets an assumed state.
    pub(super) fn restore(&self, state: &Arc<T>) {
        let mut assumed = self.assumed.lock();
        if assumed.get(&state.key()).is_some_and(|a| Arc::ptr_eq(a, state)) {
            assumed.remove(&state.key());
        }
    }
}
