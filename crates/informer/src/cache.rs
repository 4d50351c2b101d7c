//! The objects of one kind, with indexes.

use std::sync::Arc;

use api::Kind;
use parking_lot::RwLock;
use rt::{HashMap, HashSet};

/// Maps an object to the values it is found under.
pub(crate) type IndexFn<T> = Box<dyn Fn(&T) -> Vec<String> + Send + Sync>;

/// A change of the cache, as handlers see it.
#[derive(Debug)]
pub enum Delta<T> {
    /// The object is new to this cache.
    Added(Arc<T>),
    /// The object changed.
    Updated {
        /// Before.
        old: Arc<T>,
        /// After.
        new: Arc<T>,
    },
    /// The object is gone; this is the last state known.
    Deleted(Arc<T>),
}

impl<T> Delta<T> {
    /// The newest state the delta holds.
    pub fn object(&self) -> &Arc<T> {
        match self {
            Self::Added(object) | Self::Deleted(object) => object,
            Self::Updated { new, .. } => new,
        }
    }
}

struct Index<T> {
    name: &'static str,
    values: IndexFn<T>,
    keys: HashMap<String, HashSet<Arc<str>>>,
}

struct Inner<T> {
    /// Keys are shared with the indexes.
    objects: HashMap<Arc<str>, Arc<T>>,
    indexes: Vec<Index<T>>,
}

/// The objects of one kind by `namespace/name`. Reads never wait for the network.
pub struct Cache<T> {
    inner: RwLock<Inner<T>>,
}

/// The index that every cache of a namespaced kind has.
const BY_NAMESPACE: &str = "namespace";

impl<T: Kind> Cache<T> {
    pub(crate) fn new() -> Self {
        let namespace: IndexFn<T> = Box::new(|object| vec![object.namespace().to_owned()]);
        let index = Index { name: BY_NAMESPACE, values: namespace, keys: HashMap::default() };
        Self { inner: RwLock::new(Inner { objects: HashMap::default(), indexes: vec![index] }) }
    }

    /// Adds an index and fills it; a name that exists already is left as it is.
    pub(crate) fn add_index(&self, name: &'static str, values: IndexFn<T>) {
        let mut inner = self.inner.write();
        if inner.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, values, keys: HashMap::default() };
        for (key, object) in &inner.objects {
            index.insert(key, object);
        }
        inner.indexes.push(index);
    }

    /// An object by `namespace/name` (or name alone).
    pub fn get_key(&self, key: &str) -> Option<Arc<T>> {
        self.inner.read().objects.get(key).cloned()
    }

    /// An object by namespace (empty for cluster-scoped kinds) and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        if namespace.is_empty() { self.get_key(name) } else { self.get_key(&format!("{namespace}/{name}")) }
    }

    /// All objects, in no particular order.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.inner.read().objects.values().cloned().collect()
    }

    /// The objects of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        self.by_index(BY_NAMESPACE, namespace)
    }

    /// The objects that an index has under a value; none when there is no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<T>> {
        let inner = self.inner.read();
        let keys = inner.indexes.iter().find(|i| i.name == index).and_then(|i| i.keys.get(value));
        keys.map(|keys| keys.iter().filter_map(|key| inner.objects.get(key).cloned()).collect()).unwrap_or_default()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts an object in and tells what that changed; `None` when this very version was there.
    pub(crate) fn upsert(&self, object: Arc<T>) -> Option<Delta<T>> {
        let key = object.key();
        let mut guard = self.inner.write();
        let inner = &mut *guard;
        let key =
            inner.objects.get_key_value(&*key).map_or_else(|| Arc::from(key.as_str()), |(known, _)| known.clone());
        let old = inner.objects.insert(key.clone(), object.clone());
        if let Some(old) = &old {
            for index in &mut inner.indexes {
                index.remove(&key, old);
            }
        }
        for index in &mut inner.indexes {
            index.insert(&key, &object);
        }
        match old {
            None => Some(Delta::Added(object)),
            Some(old) if same(&*old, &*object) => None,
            Some(old) => Some(Delta::Updated { old, new: object }),
        }
    }

    pub(crate) fn remove(&self, key: &str) -> Option<Arc<T>> {
        let mut inner = self.inner.write();
        let old = inner.objects.remove(key)?;
        for index in &mut inner.indexes {
            index.remove(key, &old);
        }
        Some(old)
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.inner.read().objects.keys().map(|key| key.to_string()).collect()
    }
}

fn same<T: Kind>(old: &T, new: &T) -> bool {
    old.uid() == new.uid() && old.resource_version() == new.resource_version()
}

impl<T> Index<T> {
    fn insert(&mut self, key: &Arc<str>, object: &T) {
        for value in (self.values)(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &str, object: &T) {
        for value in (self.values)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::prelude::Pod;

    fn pod(name: &str, node: &str, version: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("ns".into());
        pod.metadata.name = Some(name.into());
        pod.metadata.resource_version = Some(version.into());
        pod.spec.get_or_insert_default().node_name = Some(node.into());
        Arc::new(pod)
    }

    #[test]
    fn indexes_follow_updates() {
        let cache = Cache::new();
        cache.add_index("node", Box::new(|p: &Pod| p.spec.iter().filter_map(|s| s.node_name.clone()).collect()));
        assert!(matches!(cache.upsert(pod("a", "n1", "1")), Some(Delta::Added(_))));
        assert!(cache.upsert(pod("a", "n1", "1")).is_none());
        assert!(matches!(cache.upsert(pod("a", "n2", "2")), Some(Delta::Updated { .. })));
        assert!(cache.by_index("node", "n1").is_empty());
        assert_eq!(cache.by_index("node", "n2").len(), 1);
        assert_eq!(cache.in_namespace("ns").len(), 1);
        cache.remove("ns/a");
        assert!(cache.by_index("node", "n2").is_empty() && cache.is_empty());
    }
}
