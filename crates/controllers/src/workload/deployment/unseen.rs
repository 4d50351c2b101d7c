//! What a Deployment wrote to its ReplicaSets and the cache has not shown yet.
//!
//! Sizes are worked out from the cache. Between a write and its event another reason to look, such as a new template, would
//! find a set missing or smaller than it is, and give its pods away a second time: more pods than the surge allows. So a
//! Deployment is not looked at before the cache shows its own writes.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::ReplicaSet;
use parking_lot::Mutex;
use rt::HashMap;
use rt::time::Instant;

/// After this long the cache is believed all the same: a set that was made and gone while a watch was down is never shown.
const TIMEOUT: Duration = Duration::from_secs(60);

struct Written {
    version: u64,
    at: Instant,
}

/// By the Deployment's uid, the sets' keys and what was written.
#[derive(Default)]
pub(super) struct Unseen(Mutex<HashMap<String, HashMap<String, Written>>>);

fn version(set: &ReplicaSet) -> u64 {
    set.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl Unseen {
    /// The server has this.
    pub(super) fn note(&self, deployment: &str, set: &ReplicaSet) {
        let written = Written { version: version(set), at: Instant::now() };
        self.0.lock().entry(deployment.to_owned()).or_default().insert(set.key(), written);
    }

    /// A set is gone.
    pub(super) fn forget(&self, set: &ReplicaSet) {
        let Some(reference) = set.controller_ref() else { return };
        let mut all = self.0.lock();
        if let Some(sets) = all.get_mut(&reference.uid) {
            sets.remove(&set.key());
            if sets.is_empty() {
                all.remove(&reference.uid);
            }
        }
    }

    /// A Deployment is gone.
    pub(super) fn forget_all(&self, deployment: &str) {
        self.0.lock().remove(deployment);
    }

    /// How long to wait at most for the cache, that has sets by key; `None` when it shows everything.
    pub(super) fn wait(&self, deployment: &str, cached: impl Fn(&str) -> Option<Arc<ReplicaSet>>) -> Option<Duration> {
        let mut all = self.0.lock();
        let sets = all.get_mut(deployment)?;
        sets.retain(|key, written| {
            let shown = cached(key).is_some_and(|set| version(&set) >= written.version);
            !shown && written.at.elapsed() < TIMEOUT
        });
        let wait = sets.values().map(|written| TIMEOUT.saturating_sub(written.at.elapsed())).max();
        if wait.is_none() {
            all.remove(deployment);
        }
        wait.map(|wait| wait + Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(version: &str) -> ReplicaSet {
        let mut set = ReplicaSet::default();
        set.metadata.name = Some("web-1".into());
        set.metadata.namespace = Some("default".into());
        set.metadata.resource_version = Some(version.into());
        set
    }

    #[test]
    fn waits_until_the_cache_shows_what_was_written() {
        let unseen = Unseen::default();
        let wait = |shown: Option<&str>| unseen.wait("uid", |_| shown.map(|v| Arc::new(set(v)))).is_some();
        assert!(!wait(None), "nothing was written");
        unseen.note("uid", &set("7"));
        assert!(wait(None), "the cache has no such set");
        assert!(wait(Some("6")), "the cache has an older one");
        assert!(!wait(Some("10")), "versions are numbers");
        assert!(!wait(None), "what was shown is waited for no more");
        unseen.note("uid", &set("11"));
        unseen.forget_all("uid");
        assert!(!wait(None), "the Deployment is gone");
    }
}
