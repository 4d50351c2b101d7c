//! The log of published revisions and the watches that follow it.
//!
//! A watch has no queue. It has a mark: the first revision that may hold something it has not seen. Publishing sets the
//! mark of a matching watch that has none, and wakes it; the watch then reads the log from the mark on at its own
//! speed. What the log no longer has in memory is read from the backend. So memory is bounded by the log, and
//! a revision wakes only the watches that it concerns.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use parking_lot::Mutex;
use rt::sync::Notify;

use crate::{Event, KeyRange, Revision};

/// How many revisions a watch takes at once from the log.
const CHUNK: usize = 512;

/// One published revision.
#[derive(Debug)]
pub(crate) struct Commit {
    pub revision: Revision,
    pub events: Vec<Event>,
}

impl Commit {
    fn bytes(&self) -> usize {
        let kv = |kv: &crate::KeyValue| kv.key.len() + kv.value.len() + 64;
        self.events.iter().map(|event| kv(&event.kv) + event.prev_kv.as_ref().map_or(0, kv)).sum::<usize>() + 64
    }
}

/// What the log has for a watch.
#[derive(Debug)]
pub(crate) enum Collected {
    /// The revisions from the mark on, not filtered.
    Commits(Vec<Arc<Commit>>),
    /// Revisions from the first up to, not including, the second are no longer in memory.
    Behind(Revision, Revision),
    /// Everything up to this revision was seen.
    Idle(Revision),
    /// The store was closed.
    Closed,
}

#[derive(Debug)]
struct Slot {
    range: KeyRange,
    start: Revision,
    mark: Option<Revision>,
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    log: VecDeque<(Arc<Commit>, usize)>,
    log_bytes: usize,
    slots: BTreeMap<u64, Slot>,
    next_slot: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    head: AtomicI64,
    closed: AtomicBool,
    limit_bytes: usize,
}

impl Hub {
    pub fn new(head: Revision, limit_bytes: usize) -> Self {
        let state = State { log: VecDeque::new(), log_bytes: 0, slots: BTreeMap::new(), next_slot: 0 };
        Self { state: Mutex::new(state), head: AtomicI64::new(head), closed: AtomicBool::new(false), limit_bytes }
    }

    /// The last published revision.
    pub fn head(&self) -> Revision {
        self.head.load(Ordering::Acquire)
    }

    /// Makes revisions visible, in order, and wakes the watches that they concern.
    pub fn publish(&self, commits: Vec<Arc<Commit>>) {
        let Some(head) = commits.last().map(|commit| commit.revision) else { return };
        let mut state = self.state.lock();
        for slot in state.slots.values_mut().filter(|slot| slot.mark.is_none()) {
            let first = commits.iter().find(|commit| {
                commit.revision >= slot.start && commit.events.iter().any(|event| slot.range.contains(&event.kv.key))
            });
            if let Some(commit) = first {
                slot.mark = Some(commit.revision);
                slot.wake.notify_one();
            }
        }
        for commit in commits {
            let bytes = commit.bytes();
            state.log_bytes += bytes;
            state.log.push_back((commit, bytes));
        }
        while state.log_bytes > self.limit_bytes
            && let Some((_, bytes)) = state.log.pop_front()
        {
            state.log_bytes -= bytes;
        }
        self.head.store(head, Ordering::Release);
    }

    /// Adds a watch and returns its slot and its alarm. `start` 0 means after the head.
    pub fn register(&self, range: KeyRange, start: Revision) -> (u64, Arc<Notify>) {
        let mut state = self.state.lock();
        let head = self.head();
        let start = if start == 0 { head + 1 } else { start };
        let wake = Arc::new(Notify::new());
        let id = state.next_slot;
        state.next_slot += 1;
        let mark = (start <= head).then_some(start);
        state.slots.insert(id, Slot { range, start, mark, wake: wake.clone() });
        (id, wake)
    }

    /// Removes a watch.
    pub fn unregister(&self, id: u64) {
        self.state.lock().slots.remove(&id);
    }

    /// Takes the next chunk for a watch and moves its mark behind it.
    pub fn collect(&self, id: u64) -> Collected {
        let mut state = self.state.lock();
        let head = self.head();
        let State { log, slots, .. } = &mut *state;
        let (false, Some(slot)) = (self.is_closed(), slots.get_mut(&id)) else { return Collected::Closed };
        let Some(mark) = slot.mark else { return Collected::Idle(head) };
        let first = log.front().map_or(head + 1, |(commit, _)| commit.revision);
        if mark < first {
            return Collected::Behind(mark, first);
        }
        // Revisions in the log have no gaps.
        let skip = (mark - first) as usize;
        let commits: Vec<_> = log.iter().skip(skip).take(CHUNK).map(|(commit, _)| commit.clone()).collect();
        let next = commits.last().map_or(head, |commit| commit.revision) + 1;
        slot.mark = (next <= head).then_some(next);
        Collected::Commits(commits)
    }

    /// Moves a watch's mark after it has read from the backend.
    pub fn advance(&self, id: u64, next: Revision) {
        let mut state = self.state.lock();
        let head = self.head();
        if let Some(slot) = state.slots.get_mut(&id) {
            slot.mark = (next <= head).then_some(next);
        }
    }

    /// Ends every watch.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let state = self.state.lock();
        for slot in state.slots.values() {
            slot.wake.notify_one();
        }
    }

    /// Whether [`Hub::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
