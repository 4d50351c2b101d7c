//! A watch on the log.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rt::sync::Notify;

use super::{Core, hub::Collected, record::RecordId, view::View};
use crate::{Error, Event, KeyRange, KeyValue, Result, Revision, WatchMessage, WatchRequest, WatchSource};

/// Bytes that one read of old revisions takes from the backend, roughly.
const REPLAY_BYTES: usize = 1 << 20;

/// See the module.
pub(crate) struct Follower {
    core: Arc<Core>,
    request: WatchRequest,
    slot: u64,
    wake: Arc<Notify>,
    /// How often progress was asked for, and up to which of these questions it was told.
    asked: Arc<AtomicU64>,
    told: u64,
    ready: VecDeque<WatchMessage>,
    /// The watch began below a compaction.
    refused: Option<Error>,
}

impl Follower {
    pub fn new(core: Arc<Core>, request: WatchRequest) -> Self {
        let compacted = core.index.read().compacted();
        let start = request.start_revision;
        let refused = (start != 0 && start < compacted).then_some(Error::Compacted { requested: start, compacted });
        let (slot, wake) = core.hub.register(request.range.clone(), start);
        Self { core, request, slot, wake, asked: Arc::default(), told: 0, ready: VecDeque::new(), refused }
    }

    /// What makes the watch report its progress.
    pub fn progress_handle(&self) -> impl Fn() + Send + Sync + 'static {
        let (asked, wake) = (self.asked.clone(), self.wake.clone());
        move || {
            asked.fetch_add(1, Ordering::AcqRel);
            wake.notify_one();
        }
    }

    fn push(&mut self, revision: Revision, events: Vec<Event>) {
        if !events.is_empty() {
            self.ready.push_back(WatchMessage::Events { revision, events });
        }
    }

    fn filter(&self, event: &Event) -> Option<Event> {
        if !self.request.range.contains(&event.kv.key) {
            return None;
        }
        let mut event = event.clone();
        if !self.request.prev_kv {
            event.prev_kv = None;
        }
        Some(event)
    }

    /// Reads revisions that the log has dropped. Cancelled, it is simply done again.
    async fn replay(&mut self, from: Revision, until: Revision) -> Result<()> {
        let (core, range, prev_kv) = (self.core.clone(), self.request.range.clone(), self.request.prev_kv);
        let work = move || replay(&core, &range, prev_kv, from, until);
        let (batches, next) = if self.core.backend.blocks() {
            rt::spawn_blocking(work).await.map_err(|source| Error::engine("replay the log", source))??
        } else {
            work()?
        };
        for (revision, events) in batches {
            self.push(revision, events);
        }
        self.core.hub.advance(self.slot, next);
        Ok(())
    }

    /// Waits until something happens; true if it is time to report progress instead.
    async fn wait(&self) -> bool {
        if !self.request.progress_notify {
            self.wake.notified().await;
            return false;
        }
        rt::time::timeout(self.core.progress_interval, self.wake.notified()).await.is_err()
    }
}

#[async_trait]
impl WatchSource for Follower {
    async fn next(&mut self) -> Result<Option<WatchMessage>> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            // Read before the position, so that the answer is at least as new as the question.
            let asked = self.asked.load(Ordering::Acquire);
            match self.core.hub.collect(self.slot) {
                Collected::Closed => return Ok(None),
                Collected::Idle(revision) if asked != self.told => {
                    self.told = asked;
                    return Ok(Some(WatchMessage::Progress { revision }));
                }
                Collected::Idle(_) => {
                    if self.wait().await {
                        self.asked.fetch_add(1, Ordering::AcqRel);
                    }
                }
                Collected::Commits(commits) => {
                    for commit in commits {
                        let events = commit.events.iter().filter_map(|event| self.filter(event)).collect();
                        self.push(commit.revision, events);
                    }
                }
                Collected::Behind(from, until) => self.replay(from, until).await?,
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.core.hub.unregister(self.slot);
    }
}

type Batches = Vec<(Revision, Vec<Event>)>;

/// Reads matching events of revisions in `from..until`, whole revisions only, and where to go on.
fn replay(
    core: &Core,
    range: &KeyRange,
    prev_kv: bool,
    from: Revision,
    until: Revision,
) -> Result<(Batches, Revision)> {
    let reader = core.backend.reader()?;
    let (mut records, mut bytes, mut next, mut seen) = (Vec::new(), 0, until, from);
    reader.scan(RecordId::first_of(from), &mut |record| {
        let begins = record.id.revision != seen;
        if record.id.revision >= until || (begins && bytes > REPLAY_BYTES) {
            next = record.id.revision.min(until);
            return false;
        }
        seen = record.id.revision;
        if range.contains(&record.key) {
            bytes += record.size();
            records.push(record);
        }
        true
    })?;
    let view = View { index: &core.index, reader: &*reader, pending: &[] };
    let mut batches = Batches::new();
    for record in records {
        let prev = match record.prev {
            Some(id) if prev_kv => prev_value(&view, id)?,
            _ => None,
        };
        let event = record.event(prev);
        match batches.last_mut() {
            Some((revision, events)) if *revision == record.id.revision => events.push(event),
            _ => batches.push((record.id.revision, vec![event])),
        }
    }
    // Checked last: a compaction is announced before its records are deleted.
    let compacted = core.index.read().compacted();
    if from < compacted { Err(Error::Compacted { requested: from, compacted }) } else { Ok((batches, next)) }
}

/// The previous value, unless it is compacted away.
fn prev_value(view: &View<'_>, id: RecordId) -> Result<Option<KeyValue>> {
    Ok(view.reader.get(id)?.map(|record| record.kv()))
}

/// How often a watch with progress notifications reports while nothing happens, as etcd's default.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
