//! Watches: the log of revisions, replayed for one key range.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::Stream;

use crate::{Error, KeyRange, KeyValue, Result, Revision};

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRequest {
    /// The keys.
    pub range: KeyRange,
    /// The first revision to deliver; 0 means the one after the current.
    ///
    /// A revision in the future is waited for.
    pub start_revision: Revision,
    /// Fill [`Event::prev_kv`].
    pub prev_kv: bool,
    /// Send a [`WatchMessage::Progress`] now and then while nothing happens.
    pub progress_notify: bool,
}

impl WatchRequest {
    /// Watches `range` from now on, with previous values.
    pub fn new(range: KeyRange) -> Self {
        Self { range, start_revision: 0, prev_kv: true, progress_notify: false }
    }

    /// From `revision` on (that revision included).
    pub fn from(mut self, revision: Revision) -> Self {
        self.start_revision = revision;
        self
    }

    /// Without previous values.
    pub fn without_prev_kv(mut self) -> Self {
        self.prev_kv = false;
        self
    }

    /// With progress notifications.
    pub fn with_progress(mut self) -> Self {
        self.progress_notify = true;
        self
    }
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or changed.
    Put,
    /// It was deleted, also by the end of its lease.
    Delete,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key after the change; of a deletion only `key` and `mod_revision` are set.
    pub kv: KeyValue,
    /// The key before, if the watch asked for it, there was one, and it is not compacted.
    pub prev_kv: Option<KeyValue>,
}

impl Event {
    /// Whether the event creates its key.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}

/// One item of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage {
    /// All changes of the range in one revision, in the transaction's order.
    Events {
        /// The revision.
        revision: Revision,
        /// Its changes; at least one.
        events: Vec<Event>,
    },
    /// Every change up to and including `revision` was delivered before this message.
    Progress {
        /// The revision.
        revision: Revision,
    },
}

/// What an engine implements to feed a [`Watcher`].
#[async_trait]
pub trait WatchSource: Send {
    /// The next message, `Ok(None)` when the store was closed. It must be safe to cancel.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the log was cut above the watch's position. After an error the watch has ended.
    async fn next(&mut self) -> Result<Option<WatchMessage>>;
}

/// Asks a watch for its position, from anywhere.
#[derive(Clone)]
pub struct ProgressRequester(Arc<dyn Fn() + Send + Sync>);

impl ProgressRequester {
    /// Makes one from the engine's function, which must not block.
    pub fn new(request: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(request))
    }

    /// The watch will answer with a [`WatchMessage::Progress`] at least at the revision current now.
    pub fn request(&self) {
        (self.0)();
    }
}

impl fmt::Debug for ProgressRequester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressRequester")
    }
}

/// A running watch; dropping it ends the watch.
///
/// It pulls: a consumer that stops reading holds no queue of its own in the embedded engine, it is sent to the log,
/// and when that has been compacted in the meantime, it gets [`Error::Compacted`].
pub struct Watcher {
    source: Box<dyn WatchSource>,
    progress: ProgressRequester,
    ended: bool,
}

impl Watcher {
    /// Wraps an engine's source.
    pub fn new(source: Box<dyn WatchSource>, progress: ProgressRequester) -> Self {
        Self { source, progress, ended: false }
    }

    /// The next message; `None` after the end. Safe to cancel: nothing is lost.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the log was cut above the watch's position, else what the engine says. `None` follows.
    pub async fn next(&mut self) -> Option<Result<WatchMessage, Error>> {
        if self.ended {
            return None;
        }
        let item = self.source.next().await.transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }

    /// A handle that asks for progress while another task reads.
    pub fn progress_requester(&self) -> ProgressRequester {
        self.progress.clone()
    }

    /// The watch as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<WatchMessage>> + Send {
        futures::stream::unfold(self, |mut watcher| async move { watcher.next().await.map(|item| (item, watcher)) })
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").field("ended", &self.ended).finish_non_exhaustive()
    }
}
