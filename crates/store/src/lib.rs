//! Revisions, transactions, watch and leases; knows bytes, not kinds.
//!
//! One trait, [`Store`], has etcd's semantics: a single revision counter, multi-version keys, atomic
//! transactions with compares, a watch that replays the log of revisions, leases, compaction. Engines
//! behind it: [`Embedded`] (LMDB on disk, or memory for simulation) and [`Etcd`] (a real cluster over gRPC).
//!
//! # Guarantees that every engine gives, and that `testkit::store` checks
//! - A write is durable before it is acknowledged, and is seen by every read that starts after that.
//! - Revisions grow by one per writing transaction; all changes of one transaction share its revision.
//! - A watch delivers every change of its range from its start revision on, once, in revision order, and
//!   never splits a revision over two batches; it ends with [`Error::Compacted`] if the log was cut above it.

mod api;
pub mod engine;
mod error;
mod lease;
mod txn;
mod types;
mod watch;

pub use api::Store;
pub use engine::embedded::{Embedded, EmbeddedOptions};
pub use engine::etcd::{Etcd, EtcdOptions, EtcdTls};
pub use error::Error;
pub use lease::{Lease, LeaseId, LeaseStatus};
pub use txn::{Compare, CompareOp, CompareTarget, Conditional, Op, OpResponse, PutOp, Txn, TxnResponse};
pub use types::{Key, KeyRange, KeyValue, RangeEnd, RangeRequest, RangeResponse, Revision, Status, Value};
pub use watch::{Event, EventKind, ProgressRequester, WatchMessage, WatchRequest, WatchSource, Watcher};

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
