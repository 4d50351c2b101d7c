//! The watch cache of one key prefix: the current objects, a window of recent events, and the watchers, fed by one store watch.
//!
//! # Invariants
//! - `State::revision` is the revision up to which every change of the prefix is applied.
//! - Events reach watchers in revision order, and a watcher registered under the state's lock misses none after it.
//! - A watcher that does not keep up is dropped; its client lists or watches again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meta::Status;
use parking_lot::RwLock;
use rt::sync::{mpsc, watch};
use rt::{HashMap, Shutdown};
use store::{Event, EventKind, KeyRange, RangeRequest, Store, WatchMessage, WatchRequest};
use tracing::{debug, warn};

use crate::entry::Entry;
use crate::event::{CacheEvent, Change};
use crate::row::KindRow;

/// Recent events kept for watches that start in the past; older starts are replayed from the store's log.
const WINDOW: usize = 2048;
/// What they may hold together in bytes; see [`CacheEvent::bytes`].
pub(crate) const WINDOW_BYTES: usize = 16 << 20;
/// Events that may wait for one watcher.
const QUEUE: usize = 8192;
/// How long a read waits for the cache to catch up.
const FRESH_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause before the feed is started anew after the store failed.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// What a registered watcher receives.
#[derive(Clone)]
pub(crate) enum Signal {
    /// A change.
    Event(Arc<CacheEvent>),
}

struct Slot {
    sender: mpsc::Sender<Signal>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Bytes, Arc<Entry>>,
    /// By indexed field's position, then value: keys.
    index: HashMap<Box<str>, BTreeSet<Bytes>>,
    revision: i64,
    window: VecDeque<Arc<CacheEvent>>,
    window_bytes: usize,
    /// Events above this revision are all in the window.
    window_start: i64,
    watchers: Vec<Slot>,
    indexed_watchers: HashMap<Box<str>, Vec<Slot>>,
}

/// The watch cache of a row.
pub struct Cache {
    row: Arc<KindRow>,
    store: Arc<dyn Store>,
    state: RwLock<State>,
    /// The applied revision; 0 before the first list.
    progress: watch::Sender<i64>,
    nudge: rt::sync::Notify,
    indexed_field: Option<usize>,
}

/// What a watch starts with.
pub(crate) struct Subscription {
    /// Events after the start revision that have happened already.
    pub backlog: Vec<Arc<CacheEvent>>,
    /// The live rest.
    pub live: mpsc::Receiver<Signal>,
    /// The cache's revision at the subscription.
    pub revision: i64,
    /// The objects at that revision, when asked for.
    pub initial: Vec<Arc<Entry>>,
}

impl Cache {
    /// Makes a cache and starts its feed.
    pub(crate) fn start(row: Arc<KindRow>, store: Arc<dyn Store>, shutdown: Shutdown) -> Arc<Self> {
        let indexed_field = row.strategy.selectable_fields().iter().position(|f| f.indexed);
        let cache = Arc::new(Self {
            row,
            store,
            state: RwLock::default(),
            progress: watch::Sender::new(0),
            nudge: rt::sync::Notify::new(),
            indexed_field,
        });
        let feed = cache.clone();
        rt::spawn("watch-cache", async move { shutdown.run(feed.feed()).await });
        cache
    }

    /// The prefix with its slash: `/registry/pods/`.
    fn prefix(&self) -> String {
        format!("{}/", self.row.key_prefix)
    }

    /// Lists and watches for ever; every failure starts over with a fresh list.
    async fn feed(self: Arc<Self>) {
        loop {
            match self.feed_once().await {
                Ok(()) | Err(store::Error::Closed) => return,
                Err(error) => warn!(resource = %self.row.plural, %error, "watch cache lost its feed"),
            }
            self.drop_watchers();
            rt::time::sleep(RESTART_PAUSE).await;
        }
    }

    async fn feed_once(&self) -> store::Result<()> {
        let range = KeyRange::prefix(self.prefix());
        let listed = self.store.range(RangeRequest::new(range.clone())).await?;
        let revision = listed.revision;
        self.reset(listed);
        let request = WatchRequest::new(range).from(revision + 1).with_progress().without_prev_kv();
        let mut watcher = self.store.watch(request).await?;
        let requester = watcher.progress_requester();
        requester.request();
        loop {
            let message = rt::select! {
                message = watcher.next() => message,
                () = self.nudge.notified() => {
                    requester.request();
                    continue;
                }
            };
            match message {
                None => return Ok(()),
                Some(Err(error)) => return Err(error),
                Some(Ok(WatchMessage::Progress { revision })) => self.advance(revision),
                Some(Ok(WatchMessage::Events { revision, events })) => self.apply(revision, events),
            }
        }
    }

    fn reset(&self, listed: store::RangeResponse) {
        let entries = listed.kvs.into_iter().map(|kv| {
            let entry = Entry::new(&self.row, kv.key.clone(), kv.value, kv.mod_revision);
            (kv.key, Arc::new(entry))
        });
        let objects: BTreeMap<_, _> = entries.collect();
        let mut state = self.state.write();
        state.index.clear();
        if let Some(field) = self.indexed_field {
            for entry in objects.values() {
                state.index.entry(entry.fields[field].clone()).or_default().insert(entry.key.clone());
            }
        }
        state.objects = objects;
        state.window.clear();
        state.window_bytes = 0;
        state.window_start = listed.revision;
        state.revision = listed.revision;
        drop(state);
        self.progress.send_replace(listed.revision);
    }

    fn drop_watchers(&self) {
        let mut state = self.state.write();
        state.watchers.clear();
        state.indexed_watchers.clear();
    }

    fn advance(&self, revision: i64) {
        let mut state = self.state.write();
        if revision > state.revision {
            state.revision = revision;
            drop(state);
            self.progress.send_replace(revision);
        }
    }

    fn apply(&self, revision: i64, events: Vec<Event>) {
        // Scanning new values happens outside the lock.
        let prepared: Vec<(Bytes, Option<Arc<Entry>>)> = events
            .into_iter()
            .map(|event| match event.kind {
                EventKind::Put => {
                    let entry = Entry::new(&self.row, event.kv.key.clone(), event.kv.value, event.kv.mod_revision);
                    (event.kv.key, Some(Arc::new(entry)))
                }
                EventKind::Delete => (event.kv.key, None),
            })
            .collect();
        let mut state = self.state.write();
        for (key, entry) in prepared {
            self.apply_one(&mut state, revision, key, entry);
        }
        state.revision = state.revision.max(revision);
        drop(state);
        self.progress.send_replace(revision);
    }

    fn apply_one(&self, state: &mut State, revision: i64, key: Bytes, entry: Option<Arc<Entry>>) {
        let old = match &entry {
            Some(entry) => state.objects.insert(key.clone(), entry.clone()),
            None => state.objects.remove(&key),
        };
        if let Some(field) = self.indexed_field {
            let value = |e: &Arc<Entry>| e.fields[field].clone();
            let (before, after) = (old.as_ref().map(value), entry.as_ref().map(value));
            if before != after {
                if let Some(before) = before
                    && let Some(keys) = state.index.get_mut(&before)
                {
                    keys.remove(&key);
                    if keys.is_empty() {
                        state.index.remove(&before);
                    }
                }
                if let Some(after) = after {
                    state.index.entry(after).or_default().insert(key.clone());
                }
            }
        }
        let change = match (old, entry) {
            (None, Some(entry)) => Change::Added(entry),
            (Some(old), Some(entry)) => Change::Modified { old, new: entry },
            (Some(old), None) => Change::Deleted(old),
            (None, None) => return,
        };
        let event = Arc::new(CacheEvent::new(revision, change));
        self.dispatch(state, &event);
        state.window_bytes += event.bytes();
        state.window.push_back(event);
        while (state.window.len() > WINDOW || state.window_bytes > WINDOW_BYTES)
            && let Some(gone) = state.window.pop_front()
        {
            state.window_bytes -= gone.bytes();
            state.window_start = gone.revision;
        }
    }

    fn dispatch(&self, state: &mut State, event: &Arc<CacheEvent>) {
        let plural = &self.row.plural;
        let send = |slots: &mut Vec<Slot>| {
            slots.retain(|slot| match slot.sender.try_send(Signal::Event(event.clone())) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    debug!(resource = %plural, "watcher is too slow and was dropped");
                    false
                }
            });
        };
        send(&mut state.watchers);
        let Some(field) = self.indexed_field else { return };
        let (old, new) = event.sides();
        let new_value = new.map(|e| e.fields[field].clone());
        let old_value = old.map(|e| e.fields[field].clone()).filter(|v| Some(v) != new_value.as_ref());
        for value in [new_value, old_value].into_iter().flatten() {
            if let Some(slots) = state.indexed_watchers.get_mut(&value) {
                send(slots);
                if slots.is_empty() {
                    state.indexed_watchers.remove(&value);
                }
            }
        }
    }

    /// Waits until the cache has seen `revision`.
    ///
    /// # Errors
    /// It did not catch up in time: 504, as upstream's "Too large resource version".
    pub(crate) async fn wait_for(&self, revision: i64) -> Result<(), Status> {
        if *self.progress.borrow() >= revision && revision > 0 {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        self.nudge.notify_one();
        let seen = progress.wait_for(|seen| *seen >= revision.max(1));
        match rt::time::timeout(FRESH_TIMEOUT, seen).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(too_large_version(revision, *self.progress.borrow())),
        }
    }

    /// Waits until the cache is at least as new as the store is now.
    ///
    /// # Errors
    /// The store failed, or the cache did not catch up.
    pub(crate) async fn wait_current(&self) -> Result<(), Status> {
        let now = self.store.current_revision().await.map_err(|e| crate::storage_error(&e))?;
        self.wait_for(now).await
    }

    /// Waits for the first list.
    pub(crate) async fn wait_ready(&self) -> Result<(), Status> {
        self.wait_for(1).await
    }

    /// One object, as cached.
    pub(crate) fn get(&self, key: &[u8]) -> (Option<Arc<Entry>>, i64) {
        let state = self.state.read();
        (state.objects.get(key).cloned(), state.revision)
    }

    /// Objects in key order from `start` within `prefix`, filtered, at most `limit` (0: all). Gives the entries, the revision,
    /// the key to go on with, and how many keys remain from there.
    pub(crate) fn list(
        &self,
        prefix: &str,
        start: &str,
        limit: usize,
        indexed: Option<&str>,
        keep: &dyn Fn(&Entry) -> bool,
    ) -> Page {
        let state = self.state.read();
        let revision = state.revision;
        let mut entries = Vec::new();
        let mut next = None;
        let mut visit = |entry: &Arc<Entry>| -> bool {
            if keep(entry) {
                if limit > 0 && entries.len() == limit {
                    next = Some(entry.key.clone());
                    return false;
                }
                entries.push(entry.clone());
            }
            true
        };
        if let (Some(value), Some(_)) = (indexed, self.indexed_field) {
            for key in state.index.get(value).into_iter().flatten() {
                let within = key.starts_with(prefix.as_bytes()) && &key[..] >= start.as_bytes();
                if within && !state.objects.get(key).is_none_or(&mut visit) {
                    break;
                }
            }
        } else {
            let from = Bytes::copy_from_slice(start.as_bytes());
            for (key, entry) in state.objects.range((Bound::Included(from), Bound::Unbounded)) {
                if !key.starts_with(prefix.as_bytes()) || !visit(entry) {
                    break;
                }
            }
        }
        let remaining = next.as_ref().map_or(0, |next: &Bytes| {
            let rest = state.objects.range(next.clone()..).take_while(|(k, _)| k.starts_with(prefix.as_bytes()));
            rest.count() as i64
        });
        Page { entries, revision, next, remaining }
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// How many recent events are kept, and their bytes.
    #[cfg(test)]
    pub(crate) fn window(&self) -> (usize, usize) {
        let state = self.state.read();
        (state.window.len(), state.window_bytes)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers a watcher. `from` is the revision after which events are wanted; `None` starts now. `indexed` narrows it to events
    /// that touch the value of the indexed field. `None` is returned when the window does not reach back to `from`.
    pub(crate) fn subscribe(&self, from: Option<i64>, initial: bool, indexed: Option<&str>) -> Option<Subscription> {
        let mut state = self.state.write();
        let mut backlog = Vec::new();
        if let Some(from) = from {
            if from < state.window_start {
                return None;
            }
            let fresh = state.window.partition_point(|e| e.revision <= from);
            backlog.extend(state.window.iter().skip(fresh).cloned());
        }
        let (sender, live) = mpsc::channel(QUEUE);
        let slot = Slot { sender };
        match (indexed, self.indexed_field) {
            (Some(value), Some(_)) => state.indexed_watchers.entry(value.into()).or_default().push(slot),
            _ => state.watchers.push(slot),
        }
        let initial = if initial { state.objects.values().cloned().collect() } else { Vec::new() };
        Some(Subscription { backlog, live, revision: state.revision, initial })
    }

    /// The applied revision, to follow.
    pub(crate) fn progress(&self) -> i64 {
        *self.progress.borrow()
    }

    /// Asks the store for its position, so that bookmarks are fresh.
    pub(crate) fn request_progress(&self) {
        self.nudge.notify_one();
    }
}

/// A part of a list.
pub(crate) struct Page {
    pub entries: Vec<Arc<Entry>>,
    pub revision: i64,
    pub next: Option<Bytes>,
    pub remaining: i64,
}

/// Upstream's answer to a resource version that has not happened yet.
pub(crate) fn too_large_version(asked: i64, current: i64) -> Status {
    Status::timeout(format!("Too large resource version: {asked}, current: {current}"), 1).with_cause(
        "ResourceVersionTooLarge",
        "Too large resource version",
        "",
    )
}
