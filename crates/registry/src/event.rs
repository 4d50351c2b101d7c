//! A change as watchers see it, encoded once per form and shared.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::entry::Entry;

/// What happened to an object.
#[derive(Debug)]
pub enum Change {
    /// It was created.
    Added(Arc<Entry>),
    /// It was changed.
    Modified {
        /// Before.
        old: Arc<Entry>,
        /// After.
        new: Arc<Entry>,
    },
    /// It was deleted; its last state.
    Deleted(Arc<Entry>),
}

/// A type of a watch event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// `ADDED`
    Added,
    /// `MODIFIED`
    Modified,
    /// `DELETED`
    Deleted,
}

impl EventType {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

/// Forms in which an event's frame is shared by all watchers: stored version, event type as it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameForm {
    /// JSON lines.
    Json = 0,
    /// Length-prefixed protobuf.
    Protobuf = 1,
}

/// A change with its revision and shared encodings.
#[derive(Debug)]
pub struct CacheEvent {
    /// Revision of the change.
    pub revision: i64,
    /// The change.
    pub change: Change,
    frames: [OnceLock<Bytes>; 2],
}

impl CacheEvent {
    pub(crate) fn new(revision: i64, change: Change) -> Self {
        Self { revision, change, frames: Default::default() }
    }

    /// What the event holds, roughly and at most: the objects, which may be nobody else's any more, and the frames, which
    /// are made when the first watcher wants them. JSON takes about twice the stored bytes.
    pub(crate) fn bytes(&self) -> usize {
        let (old, new) = self.sides();
        let size = |entry: Option<&Arc<Entry>>| entry.map_or(0, |e| e.key.len() + e.raw.value.len());
        let shown = size(new.or(old));
        size(old) + 4 * shown + 512
    }

    /// The object before and after.
    pub fn sides(&self) -> (Option<&Arc<Entry>>, Option<&Arc<Entry>>) {
        match &self.change {
            Change::Added(new) => (None, Some(new)),
            Change::Modified { old, new } => (Some(old), Some(new)),
            Change::Deleted(old) => (Some(old), None),
        }
    }

    /// What a watcher sees that keeps only what `keep` accepts: the event's type and the object to show, or nothing.
    pub fn seen(&self, keep: impl Fn(&Entry) -> bool) -> Option<(EventType, &Arc<Entry>)> {
        match &self.change {
            Change::Added(new) => keep(new).then_some((EventType::Added, new)),
            Change::Deleted(old) => keep(old).then_some((EventType::Deleted, old)),
            Change::Modified { old, new } => match (keep(old), keep(new)) {
                (true, true) => Some((EventType::Modified, new)),
                (false, true) => Some((EventType::Added, new)),
                (true, false) => Some((EventType::Deleted, old)),
                (false, false) => None,
            },
        }
    }

    /// The type without filters.
    pub fn natural_type(&self) -> EventType {
        match &self.change {
            Change::Added(_) => EventType::Added,
            Change::Modified { .. } => EventType::Modified,
            Change::Deleted(_) => EventType::Deleted,
        }
    }

    /// The frame shared by watchers that see the event as it happened; made by the first of them.
    pub fn shared_frame(&self, form: FrameForm, make: impl FnOnce() -> Bytes) -> Bytes {
        self.frames[form as usize].get_or_init(make).clone()
    }
}
