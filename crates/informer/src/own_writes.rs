//! A controller's own writes that its caches do not show yet.
//!
//! A cache may be older than what the controller wrote last. Whoever decides from it does the same thing twice: makes a pod
//! for a slot that has one, gives a surge out again, counts what was counted. So the writes made for a key (the owner that is
//! reconciled) are noted with the version they came to, and the key is not worked on before the caches have come that far.
//! Versions are positions in one log and may be compared (KEP-5504); upstream's controllers have the same guard behind their
//! `StaleControllerConsistency` gates, which are on in 1.36.
//!
//! A cache has come as far as the newest event, bookmark or list that it took in. What was made and gone while a watch was
//! broken is thereby waited for no longer than until the next list, although the cache never shows it.
//!
//! A deletion's answer need not tell a version, nor what became of an object that loses its last finalizer: there the cached
//! object itself has to show what was done ([`OwnWrites::expect`]).
//!
//! There is no polling: a key that was told to wait is woken when the cache has come far enough.

use std::any::{Any, TypeId};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::Kind;
use parking_lot::Mutex;
use rt::HashMap;
use rt::time::Instant;
use telemetry::metrics::{CounterVec, counter_vec};

use crate::informer::{Informer, Progress};

/// After so long the caches are believed: the store may have been put back to an older state.
const TIMEOUT: Duration = Duration::from_secs(300);

type Wake = Box<dyn Fn(String) + Send + Sync>;

/// One cache that writes are to be shown by.
struct Source {
    kind: TypeId,
    informer: Box<dyn Any + Send>,
    shown: Box<dyn Fn() -> u64 + Send>,
    group: String,
    resource: String,
}

/// An object that has to look otherwise, or to be gone.
struct Expected {
    source: usize,
    object: String,
    shown: Box<dyn Fn() -> bool + Send>,
}

/// What was written for one key.
struct Record {
    /// The newest version written, by source.
    versions: Vec<(usize, u64)>,
    expected: Vec<Expected>,
    since: Instant,
}

/// What a key waits for.
enum Unseen {
    Version(usize, u64),
    Object(usize, String),
}

#[derive(Default)]
struct State {
    sources: Vec<Source>,
    records: HashMap<String, Record>,
    /// Keys that were told to wait, by what they wait for.
    for_version: BTreeSet<(usize, u64, String)>,
    for_object: HashMap<(usize, String), Vec<String>>,
}

struct Inner {
    state: Mutex<State>,
    wake: Wake,
    skips: Option<CounterVec>,
}

/// Writes by the key they were made for. Clones share them.
#[derive(Clone)]
pub struct OwnWrites {
    inner: Arc<Inner>,
}

impl OwnWrites {
    /// No writes yet. `wake` is called with a key that was told to wait and may be looked at again; it must be short.
    /// `subsystem` names upstream's metric `<subsystem>_stale_sync_skips_total`, where upstream has one.
    pub fn new(subsystem: Option<&str>, wake: impl Fn(String) + Send + Sync + 'static) -> Self {
        let skips = subsystem.map(|name| {
            let help = "Total number of syncs skipped due to a stale watch cache.";
            counter_vec(&format!("{name}_stale_sync_skips_total"), help, &["group", "resource"])
        });
        Self { inner: Arc::new(Inner { state: Mutex::default(), wake: Box::new(wake), skips }) }
    }

    /// From now on writes of this kind have to be shown by this informer's cache; those of other kinds are not waited for.
    #[must_use]
    pub fn over<T: Kind>(self, informer: &Informer<T>) -> Self {
        let gvr = T::gvr();
        let progress = informer.clone();
        let mut state = self.inner.state.lock();
        let source = state.sources.len();
        state.sources.push(Source {
            kind: TypeId::of::<T>(),
            informer: Box::new(informer.clone()),
            shown: Box::new(move || progress.shown()),
            group: gvr.group,
            resource: gvr.resource,
        });
        drop(state);
        let inner = Arc::downgrade(&self.inner);
        informer.add_follower(move |progress| Inner::advance(&inner, source, progress));
        self
    }

    /// Notes an object as the server answered a write.
    pub fn note<T: Kind>(&self, key: &str, written: &T) {
        let Ok(version) = written.resource_version().parse::<u64>() else { return };
        self.inner.state.lock().await_version::<T>(key, version, true);
    }

    /// Notes that somebody else's write, which came to this version, must be shown by the cache of a kind. Looking at the same
    /// again and again does not prolong the time after which the cache is believed.
    pub fn reach<T: Kind>(&self, key: &str, version: u64) {
        self.inner.state.lock().await_version::<T>(key, version, false);
    }

    /// Notes that the cache must come to show this object otherwise, or must not have it any more.
    pub fn expect<T: Kind>(&self, key: &str, object: &T, shown: impl Fn(&T) -> bool + Send + 'static) {
        let mut state = self.inner.state.lock();
        let Some(source) = state.source::<T>() else { return };
        let Some(informer) = state.sources[source].informer.downcast_ref::<Informer<T>>().cloned() else { return };
        let (name, uid) = (object.key(), object.uid().to_owned());
        let object = name.clone();
        let shown = move || informer.cache().get_key(&name).is_none_or(|found| found.uid() != uid || shown(&found));
        if !shown() {
            state.record(key).expected.push(Expected { source, object, shown: Box::new(shown) });
        }
    }

    /// How long the key must not be worked on, at most, because the caches do not show all that was written for it; `None`
    /// when they do. The key is woken sooner, when they do; whoever is told to wait comes again after this time at the latest.
    pub fn wait(&self, key: &str) -> Option<Duration> {
        let mut guard = self.inner.state.lock();
        let state = &mut *guard;
        let record = state.records.get_mut(key)?;
        let sources = &state.sources;
        record.versions.retain(|(source, version)| (sources[*source].shown)() < *version);
        record.expected.retain(|expected| !(expected.shown)());
        let age = record.since.elapsed();
        let unseen = record.unseen();
        let Some(unseen) = unseen.filter(|_| age < TIMEOUT) else {
            if unseen_count(record) > 0 {
                tracing::warn!(key, "a cache did not show what was written; it is believed all the same");
            }
            state.records.remove(key);
            return None;
        };
        let source = match unseen {
            Unseen::Version(source, version) => {
                state.for_version.insert((source, version, key.to_owned()));
                source
            }
            Unseen::Object(source, object) => {
                let waiting = state.for_object.entry((source, object)).or_default();
                if !waiting.iter().any(|known| known == key) {
                    waiting.push(key.to_owned());
                }
                source
            }
        };
        if let Some(skips) = &self.inner.skips {
            let Source { group, resource, .. } = &state.sources[source];
            skips.with(&[group, resource]).add(1);
        }
        // A little more, so that it is over when the wait is.
        Some(TIMEOUT.saturating_sub(age) + Duration::from_millis(1))
    }

    /// Forgets a key whose object is gone.
    pub fn forget(&self, key: &str) {
        self.inner.state.lock().records.remove(key);
    }
}

fn unseen_count(record: &Record) -> usize {
    record.versions.len() + record.expected.len()
}

impl Record {
    fn new(since: Instant) -> Self {
        Self { versions: Vec::new(), expected: Vec::new(), since }
    }

    fn unseen(&self) -> Option<Unseen> {
        match (self.versions.first(), self.expected.first()) {
            (Some((source, version)), _) => Some(Unseen::Version(*source, *version)),
            (None, Some(expected)) => Some(Unseen::Object(expected.source, expected.object.clone())),
            (None, None) => None,
        }
    }
}

impl State {
    fn source<T: Kind>(&self) -> Option<usize> {
        self.sources.iter().position(|source| source.kind == TypeId::of::<T>())
    }

    fn record(&mut self, key: &str) -> &mut Record {
        let now = Instant::now();
        let record = self.records.entry(key.to_owned()).or_insert_with(|| Record::new(now));
        record.since = now;
        record
    }

    fn await_version<T: Kind>(&mut self, key: &str, version: u64, written: bool) {
        let Some(source) = self.source::<T>() else { return };
        if (self.sources[source].shown)() >= version {
            return;
        }
        let now = Instant::now();
        let record = self.records.entry(key.to_owned()).or_insert_with(|| Record::new(now));
        if written {
            record.since = now;
        }
        match record.versions.iter_mut().find(|(of, _)| *of == source) {
            Some((_, newest)) => *newest = version.max(*newest),
            None => record.versions.push((source, version)),
        }
    }

    /// The keys that waited for what a cache shows now.
    fn ripe(&mut self, source: usize, progress: &Progress<'_>) -> Vec<String> {
        let mut keys = Vec::new();
        while let Some(first) = self.for_version.range((source, 0, String::new())..).next() {
            if first.0 != source || first.1 > progress.version {
                break;
            }
            let first = first.clone();
            self.for_version.remove(&first);
            keys.push(first.2);
        }
        match progress.object {
            Some(object) if !self.for_object.is_empty() => {
                keys.extend(self.for_object.remove(&(source, object.to_owned())).into_iter().flatten());
            }
            Some(_) => {}
            None if progress.listed => {
                let mut listed: Vec<_> = self.for_object.extract_if(|(of, _), _| *of == source).collect();
                listed.sort();
                keys.extend(listed.into_iter().flat_map(|(_, waiting)| waiting));
            }
            None => {}
        }
        keys
    }
}

impl Inner {
    /// A cache has come further; whether anybody still cares.
    fn advance(this: &Weak<Self>, source: usize, progress: &Progress<'_>) -> bool {
        let Some(inner) = this.upgrade() else { return false };
        let ripe = inner.state.lock().ripe(source, progress);
        ripe.into_iter().for_each(|key| (inner.wake)(key));
        true
    }
}

#[cfg(test)]
mod tests;
