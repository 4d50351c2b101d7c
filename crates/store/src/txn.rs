//! Transactions: compares, then one of two lists of operations, all at one revision.

use crate::{Key, KeyRange, KeyValue, LeaseId, RangeRequest, RangeResponse, Revision, Value};

/// What a [`Compare`] looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    /// The version; 0 for an absent key.
    Version(i64),
    /// The revision of creation; 0 for an absent key.
    Create(Revision),
    /// The revision of the last change; 0 for an absent key.
    Mod(Revision),
    /// The value; a compare with an absent key fails, whatever the operator.
    Value(Value),
    /// The lease; 0 for none or an absent key.
    Lease(LeaseId),
}

/// How a [`Compare`] compares; the key's own field is on the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// `==`
    Equal,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `!=`
    NotEqual,
}

/// A condition on every key of a range; an empty wider range compares as one absent key, as in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The keys.
    pub range: KeyRange,
    /// The operator.
    pub op: CompareOp,
    /// The field and what it is compared with.
    pub target: CompareTarget,
}

impl Compare {
    /// Holds if the last change of `key` is `revision`; 0 means that the key does not exist.
    pub fn mod_revision(key: impl Into<Key>, revision: Revision) -> Self {
        Self { range: KeyRange::key(key), op: CompareOp::Equal, target: CompareTarget::Mod(revision) }
    }
}

/// A write of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutOp {
    /// The key; not empty.
    pub key: Key,
    /// The value.
    pub value: Value,
    /// The lease, or 0; it replaces the one the key had.
    pub lease: LeaseId,
    /// Answer with what was there before.
    pub prev_kv: bool,
    /// Keep the value the key has; it must exist.
    pub ignore_value: bool,
    /// Keep the lease the key has; it must exist.
    pub ignore_lease: bool,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Write a key.
    Put(PutOp),
    /// Delete every key of a range.
    DeleteRange {
        /// The keys.
        range: KeyRange,
        /// Answer with what was there before.
        prev_kv: bool,
    },
    /// Read; sees the earlier writes of the same transaction.
    Range(RangeRequest),
    /// A transaction inside; its compares see the state before the outer operations.
    Txn(Txn),
}

impl Op {
    /// Writes `key`.
    pub fn put(key: impl Into<Key>, value: impl Into<Value>) -> Self {
        Self::Put(PutOp { key: key.into(), value: value.into(), ..PutOp::default() })
    }

    /// Deletes `key`.
    pub fn delete(key: impl Into<Key>) -> Self {
        Self::DeleteRange { range: KeyRange::key(key), prev_kv: false }
    }

    /// Reads `key`.
    pub fn get(key: impl Into<Key>) -> Self {
        Self::Range(RangeRequest::new(KeyRange::key(key)))
    }
}

/// If all compares hold then `success`, else `failure`, atomically.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// The conditions.
    pub compares: Vec<Compare>,
    /// Done if all conditions hold.
    pub success: Vec<Op>,
    /// Done otherwise.
    pub failure: Vec<Op>,
}

/// The answer to one [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResponse {
    /// To a put.
    Put {
        /// What was there before, if asked for.
        prev_kv: Option<KeyValue>,
    },
    /// To a delete.
    DeleteRange {
        /// How many keys were deleted.
        deleted: i64,
        /// What was there before, if asked for.
        prev_kvs: Vec<KeyValue>,
    },
    /// To a read.
    Range(RangeResponse),
    /// To an inner transaction.
    Txn(TxnResponse),
}

/// The answer to a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxnResponse {
    /// The store's revision after the transaction; grown by one if it wrote something.
    pub revision: Revision,
    /// Whether the compares held.
    pub succeeded: bool,
    /// One answer per operation done.
    pub responses: Vec<OpResponse>,
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conditional {
    /// It was done.
    Applied {
        /// The revision of the write.
        revision: Revision,
    },
    /// The key was not at the expected revision; nothing was done.
    Conflict {
        /// What is there, `None` if nothing.
        current: Option<KeyValue>,
        /// The store's revision when it was looked at.
        revision: Revision,
    },
}
