//! A controller's own writes that its cache does not show yet.
//!
//! An object in the cache may be older than what the controller wrote last, while other caches already show what came of that
//! write. A controller that decides from both does the same thing twice. Versions can be compared since upstream made that
//! part of the API (KEP-5504); upstream's controllers have the same guard behind its `StaleControllerConsistency` gates.

use std::time::Duration;

use parking_lot::Mutex;
use rt::HashMap;
use rt::time::Instant;

/// After so long the cache is believed: the store may have been put back to an older state.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The version that the last own write came to, by the object's key.
#[derive(Default)]
pub struct OwnWrites {
    by_key: Mutex<HashMap<String, (u64, Instant)>>,
}

impl OwnWrites {
    /// Notes a write that was answered.
    pub fn note(&self, key: &str, version: Option<&str>) {
        if let Some(version) = version.and_then(|v| v.parse().ok()) {
            self.by_key.lock().insert(key.to_owned(), (version, Instant::now()));
        }
    }

    /// How long the key must not be acted on, at most, because the cached object is older; its news bring the key back
    /// sooner. `None` when the cache shows the write.
    pub fn wait(&self, key: &str, cached: Option<&str>) -> Option<Duration> {
        let cached: u64 = cached?.parse().ok()?;
        let mut by_key = self.by_key.lock();
        let (written, since) = *by_key.get(key)?;
        let age = since.elapsed();
        if cached >= written || age >= TIMEOUT {
            by_key.remove(key);
            return None;
        }
        Some(TIMEOUT - age + Duration::from_millis(1))
    }

    /// Forgets a key whose object is gone.
    pub fn forget(&self, key: &str) {
        self.by_key.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::OwnWrites;

    #[test]
    fn waits_for_the_last_write() {
        let writes = OwnWrites::default();
        assert!(writes.wait("a/b", Some("5")).is_none(), "nothing was written");
        writes.note("a/b", Some("7"));
        assert!(writes.wait("a/b", Some("5")).is_some());
        assert!(writes.wait("a/c", Some("5")).is_none());
        assert!(writes.wait("a/b", Some("7")).is_none());
        assert!(writes.wait("a/b", Some("5")).is_none(), "it was seen");
        writes.note("a/b", Some("10"));
        writes.forget("a/b");
        assert!(writes.wait("a/b", Some("9")).is_none());
    }
}
