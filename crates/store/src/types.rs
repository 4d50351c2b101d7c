//! Keys, ranges and read requests.

use bytes::Bytes;

/// A position in the history of the store; the first write of an empty store has revision 2, as in etcd.
pub type Revision = i64;
/// A key; compared bytewise.
pub type Key = Bytes;
/// A value; opaque.
pub type Value = Bytes;

/// A key with its value and history as of one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyValue {
    /// The key.
    pub key: Key,
    /// The value; empty when the request said `keys_only`.
    pub value: Value,
    /// Revision at which the key was last created.
    pub create_revision: Revision,
    /// Revision of the last change; in a delete event, the revision of the deletion.
    pub mod_revision: Revision,
    /// Number of writes since creation; 1 after the creation.
    pub version: i64,
    /// The lease that deletes the key when it ends, or 0.
    pub lease: i64,
}

/// Where a [`KeyRange`] ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RangeEnd {
    /// The range is its start key alone.
    Single,
    /// Keys below this one.
    Before(Key),
    /// Every key from the start on.
    Unbounded,
}

/// A set of neighbouring keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key of the range.
    pub start: Key,
    /// Its end.
    pub end: RangeEnd,
}

impl KeyRange {
    /// One key.
    pub fn key(key: impl Into<Key>) -> Self {
        Self { start: key.into(), end: RangeEnd::Single }
    }

    /// Every key that begins with `prefix`; all keys if it is empty.
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let start = prefix.into();
        let end = match prefix_end(&start) {
            Some(end) => RangeEnd::Before(end),
            None => RangeEnd::Unbounded,
        };
        Self { start, end }
    }

    /// Keys in `start..end`.
    pub fn half_open(start: impl Into<Key>, end: impl Into<Key>) -> Self {
        Self { start: start.into(), end: RangeEnd::Before(end.into()) }
    }

    /// Every key from `start` on.
    pub fn from(start: impl Into<Key>) -> Self {
        Self { start: start.into(), end: RangeEnd::Unbounded }
    }

    /// Every key.
    pub fn all() -> Self {
        Self::from(Key::new())
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= &self.start[..] && key < &end[..],
            RangeEnd::Unbounded => key >= &self.start[..],
        }
    }

    /// Whether the range is one key.
    pub fn is_single(&self) -> bool {
        self.end == RangeEnd::Single
    }
}

/// The first key after all keys that begin with `prefix`; `None` if there is none (empty, or all 0xff).
fn prefix_end(prefix: &[u8]) -> Option<Key> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// A read of a range at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRequest {
    /// What to read.
    pub range: KeyRange,
    /// At which revision; 0 means the current one.
    pub revision: Revision,
    /// At most this many keys; 0 means all.
    pub limit: usize,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
}

impl RangeRequest {
    /// Reads all of `range` at the current revision.
    pub fn new(range: KeyRange) -> Self {
        Self { range, revision: 0, limit: 0, keys_only: false, count_only: false }
    }

    /// At `revision` instead of the current one.
    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = revision;
        self
    }

    /// At most `limit` keys.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Without values.
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// Only the number of keys.
    pub fn count_only(mut self) -> Self {
        self.count_only = true;
        self
    }
}

/// The answer to a [`RangeRequest`], in key order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeResponse {
    /// The keys, ascending.
    pub kvs: Vec<KeyValue>,
    /// The store's current revision when it was read, not the revision asked for (etcd's header).
    pub revision: Revision,
    /// Whether the limit left keys out.
    pub more: bool,
    /// Number of keys in the whole range at that revision, whatever the limit.
    pub count: i64,
}

/// Facts about an engine for operators and health checks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Engine name and version, such as `corten-lmdb/1` or `etcd/3.5.16`.
    pub engine: String,
    /// The current revision.
    pub revision: Revision,
    /// Revisions below this one cannot be read; 0 if never compacted (or, for etcd, not known).
    pub compacted_revision: Revision,
    /// Bytes of the database on disk.
    pub db_size: u64,
    /// Bytes of it in use.
    pub db_size_in_use: u64,
}
