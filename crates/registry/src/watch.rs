//! A running watch on one resource.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use meta::Status;
use rt::sync::mpsc;
use rt::time::Instant;
use store::{EventKind, KeyRange, WatchMessage, WatchRequest, Watcher};

use crate::cache::{Cache, Signal};
use crate::entry::Entry;
use crate::event::{CacheEvent, Change, EventType};
use crate::listing::ListOptions;
use crate::resource::Resource;

/// How often a quiet watch gets a bookmark, as upstream.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);

/// What a watch delivers.
pub enum WatchItem {
    /// A change, as this watch's filter shows it.
    Event {
        /// The event's type here.
        kind: EventType,
        /// The object to show.
        entry: Arc<Entry>,
        /// The resource version to show on it.
        revision: i64,
        /// The event, for its shared frame: set when it is shown as it happened.
        shared: Option<Arc<CacheEvent>>,
    },
    /// Everything up to this revision was delivered.
    Bookmark {
        /// The revision.
        revision: i64,
        /// Whether it ends the initial events.
        initial_end: bool,
    },
    /// The watch ended; the last item.
    Error(Status),
}

enum Source {
    Cache {
        cache: Arc<Cache>,
        live: mpsc::Receiver<Signal>,
    },
    /// Replays the store's log, for starts before the cache's window.
    Log {
        watcher: Box<Watcher>,
        seen: i64,
    },
    Ended,
}

/// A running watch; dropping it ends it.
pub struct Watch {
    resource: Arc<Resource>,
    options: ListOptions,
    prefix: String,
    initial: VecDeque<Arc<Entry>>,
    initial_end: Option<i64>,
    backlog: VecDeque<Arc<CacheEvent>>,
    source: Source,
    /// Events up to this revision are not shown.
    after: i64,
    next_bookmark: Option<Instant>,
    failed: Option<Status>,
}

impl Watch {
    /// Starts a watch; failures after this come as items, as upstream's.
    ///
    /// # Errors
    /// The cache is not ready, or the store failed.
    pub async fn start(
        resource: Arc<Resource>,
        options: ListOptions,
        deadline: Option<Duration>,
    ) -> Result<Self, Status> {
        let cache = resource.cache();
        let wants_initial = match (options.send_initial_events, options.resource_version) {
            (Some(wanted), _) => wanted,
            (None, version) => matches!(version, None | Some(0)),
        };
        match options.resource_version {
            None => cache.wait_current().await?,
            Some(0) => cache.wait_ready().await?,
            Some(version) if wants_initial => cache.wait_for(version).await?,
            Some(_) => cache.wait_ready().await?,
        }
        let from = if wants_initial { None } else { options.resource_version.filter(|v| *v > 0) };
        let indexed = resource.indexed_value(&options);
        let prefix = resource.list_prefix(&options.namespace);
        let period = deadline.map_or(BOOKMARK_PERIOD, |d| {
            d.saturating_sub(Duration::from_secs(2)).clamp(Duration::from_millis(500), BOOKMARK_PERIOD)
        });
        let next_bookmark = options.bookmarks.then(|| Instant::now() + period);
        let mut watch = Self {
            prefix,
            initial: VecDeque::new(),
            initial_end: None,
            backlog: VecDeque::new(),
            source: Source::Ended,
            after: 0,
            next_bookmark,
            failed: None,
            resource: resource.clone(),
            options,
        };
        match cache.subscribe(from, wants_initial, indexed.as_deref()) {
            Some(subscription) => {
                watch.after = from.unwrap_or(subscription.revision);
                watch.initial = subscription.initial.into();
                watch.backlog = subscription.backlog.into();
                if watch.options.send_initial_events == Some(true) && watch.options.bookmarks {
                    watch.initial_end = Some(subscription.revision);
                }
                watch.source = Source::Cache { cache, live: subscription.live };
            }
            None => watch.replay(from.unwrap_or(0)).await?,
        }
        Ok(watch)
    }

    async fn replay(&mut self, from: i64) -> Result<(), Status> {
        self.after = from;
        let request = WatchRequest::new(KeyRange::prefix(self.prefix.clone())).from(from + 1);
        let watcher = self.resource.store().watch(request).await.map_err(|e| crate::storage_error(&e))?;
        self.source = Source::Log { watcher: Box::new(watcher), seen: from };
        Ok(())
    }

    fn keep(&self, entry: &Entry) -> bool {
        entry.key.starts_with(self.prefix.as_bytes()) && entry.matches_all(&self.resource.row, &self.options)
    }

    fn show(&self, event: Arc<CacheEvent>) -> Option<WatchItem> {
        if event.revision <= self.after {
            return None;
        }
        let (kind, entry) = event.seen(|entry| self.keep(entry))?;
        let revision = event.revision;
        let entry = entry.clone();
        let shared = (kind == event.natural_type()).then_some(event);
        Some(WatchItem::Event { kind, entry, revision, shared })
    }

    /// The next item; `None` when the server ends the watch (slow client, restart of the cache, shutdown). Safe to cancel.
    pub async fn next(&mut self) -> Option<WatchItem> {
        while let Some(entry) = self.initial.pop_front() {
            if self.keep(&entry) {
                let revision = entry.raw.revision;
                return Some(WatchItem::Event { kind: EventType::Added, entry, revision, shared: None });
            }
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(WatchItem::Bookmark { revision, initial_end: true });
        }
        loop {
            if let Some(event) = self.backlog.pop_front() {
                match self.show(event) {
                    Some(item) => return Some(item),
                    None => continue,
                }
            }
            if let Some(status) = self.failed.take() {
                self.source = Source::Ended;
                return Some(WatchItem::Error(status));
            }
            match self.fill().await {
                Filled::Events => {}
                Filled::Ended => return None,
                Filled::Bookmark(revision) => {
                    return Some(WatchItem::Bookmark { revision, initial_end: false });
                }
            }
        }
    }

    /// An item that is ready now, without waiting; lets the face gather several into one write.
    pub fn try_next(&mut self) -> Option<WatchItem> {
        if !self.initial.is_empty() || self.initial_end.is_some() {
            return None;
        }
        loop {
            if let Some(event) = self.backlog.pop_front() {
                match self.show(event) {
                    Some(item) => return Some(item),
                    None => continue,
                }
            }
            let Source::Cache { live, .. } = &mut self.source else { return None };
            let Ok(Signal::Event(event)) = live.try_recv() else { return None };
            self.backlog.push_back(event);
        }
    }

    async fn fill(&mut self) -> Filled {
        let due = self.next_bookmark;
        let tick = async move {
            match due {
                Some(at) => rt::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        match &mut self.source {
            Source::Ended => Filled::Ended,
            Source::Cache { cache, live } => {
                rt::select! {
                    signal = live.recv() => match signal {
                        Some(Signal::Event(event)) => {
                            self.backlog.push_back(event);
                            Filled::Events
                        }
                        None => Filled::Ended,
                    },
                    () = tick => {
                        self.next_bookmark = Some(Instant::now() + BOOKMARK_PERIOD);
                        cache.request_progress();
                        // Progress is published after dispatch: what is not in the queue by now is newer than this.
                        let revision = cache.progress();
                        match live.try_recv() {
                            Ok(Signal::Event(event)) => {
                                self.backlog.push_back(event);
                                self.next_bookmark = Some(Instant::now() + Duration::from_secs(1));
                                Filled::Events
                            }
                            Err(_) => Filled::Bookmark(revision),
                        }
                    }
                }
            }
            Source::Log { watcher, seen } => {
                let message = rt::select! {
                    message = watcher.next() => message,
                    () = tick => {
                        self.next_bookmark = Some(Instant::now() + BOOKMARK_PERIOD);
                        return Filled::Bookmark(*seen);
                    }
                };
                match message {
                    None => Filled::Ended,
                    Some(Ok(WatchMessage::Progress { revision })) => {
                        *seen = revision;
                        Filled::Events
                    }
                    Some(Ok(WatchMessage::Events { revision, events })) => {
                        *seen = revision;
                        let row = &self.resource.row;
                        self.backlog.extend(events.into_iter().filter_map(|e| from_log(row, revision, e)));
                        Filled::Events
                    }
                    Some(Err(store::Error::Compacted { compacted, .. })) => {
                        self.failed =
                            Some(Status::expired(format!("too old resource version: {} ({compacted})", self.after)));
                        Filled::Events
                    }
                    Some(Err(error)) => {
                        self.failed = Some(crate::storage_error(&error));
                        Filled::Events
                    }
                }
            }
        }
    }
}

enum Filled {
    Events,
    Bookmark(i64),
    Ended,
}

fn from_log(row: &crate::KindRow, revision: i64, event: store::Event) -> Option<Arc<CacheEvent>> {
    let old = event.prev_kv.map(|kv| Arc::new(Entry::new(row, kv.key, kv.value, kv.mod_revision)));
    let change = match (event.kind, old) {
        (EventKind::Put, old) => {
            let new = Arc::new(Entry::new(row, event.kv.key, event.kv.value, event.kv.mod_revision));
            match old {
                Some(old) => Change::Modified { old, new },
                None => Change::Added(new),
            }
        }
        (EventKind::Delete, Some(old)) => Change::Deleted(old),
        (EventKind::Delete, None) => return None,
    };
    Some(Arc::new(CacheEvent::new(revision, change)))
}
