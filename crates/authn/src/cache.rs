//! A small cache whose entries expire; never grows past its bound.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

/// Values with an end of life in seconds since 1970.
pub(crate) struct Cache<K, V> {
    entries: Mutex<HashMap<K, (V, i64)>>,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { entries: Mutex::new(HashMap::new()), capacity }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock();
        entries.get(key).filter(|(_, end)| rt::time::unix_seconds() < *end).map(|(value, _)| value.clone())
    }

    pub(crate) fn put(&self, key: K, value: V, end: i64) {
        let mut entries = self.entries.lock();
        if entries.len() >= self.capacity {
            let now = rt::time::unix_seconds();
            entries.retain(|_, (_, end)| now < *end);
            if entries.len() >= self.capacity {
                // All are alive: give up the half that ends first; it is only a cache.
                let mut ends: Vec<i64> = entries.values().map(|(_, end)| *end).collect();
                ends.sort_unstable();
                let middle = ends[ends.len() / 2];
                entries.retain(|_, (_, end)| *end > middle);
            }
        }
        entries.insert(key, (value, end));
    }
}

/// The SHA-256 of some bytes, as a key that gives nothing away.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
