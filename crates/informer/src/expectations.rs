//! Expectations: what a controller has asked for and not yet seen.
//!
//! A controller that creates pods from a cache would create them again on the next look, before the cache
//! has them. It writes down how many creations and which deletions it expects to see, and does not act on
//! the key until they were seen or five minutes have passed (upstream's `ControllerExpectations`).

use std::time::Duration;

use parking_lot::Mutex;
use rt::time::Instant;
use rt::{HashMap, HashSet};

const TIMEOUT: Duration = Duration::from_secs(300);

struct Expected {
    creations: i64,
    deletions: HashSet<String>,
    since: Instant,
}

/// Outstanding creations and deletions by controller key.
#[derive(Default)]
pub struct Expectations {
    by_key: Mutex<HashMap<String, Expected>>,
}

impl Expectations {
    /// Nothing expected.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the key may be acted on.
    pub fn satisfied(&self, key: &str) -> bool {
        let by_key = self.by_key.lock();
        by_key.get(key).is_none_or(|expected| {
            (expected.creations <= 0 && expected.deletions.is_empty()) || expected.since.elapsed() >= TIMEOUT
        })
    }

    /// How long until the key may be acted on although not all was seen; `None` when it may be now. Whoever is told to wait has
    /// to look again then: what was made and gone while a watch was broken is never seen.
    pub fn wait(&self, key: &str) -> Option<Duration> {
        let since = self.by_key.lock().get(key).map(|expected| expected.since)?;
        // A little more, so that it is over when the wait is.
        (!self.satisfied(key)).then(|| TIMEOUT.saturating_sub(since.elapsed()) + Duration::from_millis(1))
    }

    /// Expects so many creations, and nothing else any more.
    pub fn expect_creations(&self, key: &str, count: usize) {
        let creations = i64::try_from(count).unwrap_or(i64::MAX);
        let expected = Expected { creations, deletions: HashSet::default(), since: Instant::now() };
        self.by_key.lock().insert(key.to_owned(), expected);
    }

    /// Expects so many creations besides what is expected already.
    pub fn add_creations(&self, key: &str, count: usize) {
        let mut by_key = self.by_key.lock();
        let expected = by_key.entry(key.to_owned()).or_insert_with(|| Expected {
            creations: 0,
            deletions: HashSet::default(),
            since: Instant::now(),
        });
        expected.creations += i64::try_from(count).unwrap_or(i64::MAX);
    }

    /// Expects these objects (by uid or key) to go, and nothing else any more.
    pub fn expect_deletions(&self, key: &str, objects: impl IntoIterator<Item = String>) {
        let expected = Expected { creations: 0, deletions: objects.into_iter().collect(), since: Instant::now() };
        self.by_key.lock().insert(key.to_owned(), expected);
    }

    /// One creation was seen, or will not come.
    pub fn creation_observed(&self, key: &str) {
        if let Some(expected) = self.by_key.lock().get_mut(key) {
            expected.creations -= 1;
        }
    }

    /// One deletion was seen, or will not come.
    pub fn deletion_observed(&self, key: &str, object: &str) {
        if let Some(expected) = self.by_key.lock().get_mut(key) {
            expected.deletions.remove(object);
        }
    }

    /// Forgets a key whose object is gone.
    pub fn forget(&self, key: &str) {
        self.by_key.lock().remove(key);
    }
}
