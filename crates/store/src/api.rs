//! The trait that every engine implements.

use std::path::Path;

use async_trait::async_trait;

use crate::{
    Compare, Conditional, Error, Key, KeyRange, KeyValue, Lease, LeaseId, LeaseStatus, Op, OpResponse, PutOp,
    RangeRequest, RangeResponse, Result, Revision, Status, Txn, TxnResponse, Value, WatchRequest, Watcher,
};

/// A multi-version key-value store with etcd's semantics; used as `Arc<dyn Store>`.
///
/// Every method may be called at once from many tasks. A write whose future is dropped may still be done.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads a range. Linearizable when the request's revision is 0.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`], or the engine's.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse>;

    /// Runs a transaction. A transaction that writes nothing leaves the revision as it is.
    ///
    /// # Errors
    /// [`Error::TooManyOps`], [`Error::DuplicateKey`], [`Error::LeaseNotFound`], [`Error::NoSpace`], or the
    /// engine's. Nothing was written unless the error [is transient](Error::is_transient).
    async fn txn(&self, txn: Txn) -> Result<TxnResponse>;

    /// Starts a watch; events from its start revision on are delivered even if they happen before the first read.
    ///
    /// # Errors
    /// The engine's. A compacted start revision is reported by the watch itself, as its first item.
    async fn watch(&self, request: WatchRequest) -> Result<Watcher>;

    /// Forgets what was overwritten or deleted before `revision`; reads and watches below it are then refused.
    ///
    /// # Errors
    /// [`Error::Compacted`] if it was compacted as far already, [`Error::FutureRevision`].
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// The revision of the last write, read linearizably.
    ///
    /// # Errors
    /// The engine's.
    async fn current_revision(&self) -> Result<Revision>;

    /// Creates a lease of `ttl` seconds; `id` 0 lets the engine choose.
    ///
    /// # Errors
    /// [`Error::LeaseExists`], [`Error::LeaseTtl`].
    async fn lease_grant(&self, ttl: i64, id: LeaseId) -> Result<Lease>;

    /// Ends a lease and deletes its keys in one revision, which is returned.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision>;

    /// Starts a lease's time anew and returns its seconds.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`].
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease>;

    /// What is left of a lease; an unknown lease is no error but has -1 seconds, as in etcd.
    ///
    /// # Errors
    /// The engine's.
    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus>;

    /// The living leases.
    ///
    /// # Errors
    /// The engine's.
    async fn lease_list(&self) -> Result<Vec<LeaseId>>;

    /// Facts for operators.
    ///
    /// # Errors
    /// The engine's.
    async fn status(&self) -> Result<Status>;

    /// Writes a consistent copy of the living keys and leases to a new file, in the format that
    /// [`crate::engine::snapshot::restore`] reads, and returns its revision.
    ///
    /// # Errors
    /// [`Error::Io`], or the engine's.
    async fn snapshot(&self, file: &Path) -> Result<Revision>;

    /// Gives back unused disk space, as far as the engine can.
    ///
    /// # Errors
    /// The engine's.
    async fn defragment(&self) -> Result<()>;

    /// Finishes what was accepted and refuses the rest; watches end. Idempotent.
    async fn close(&self);

    /// One key as it is now, and the store's revision.
    ///
    /// # Errors
    /// As [`Store::range`].
    async fn get(&self, key: Key) -> Result<(Option<KeyValue>, Revision)> {
        let mut response = self.range(RangeRequest::new(KeyRange::key(key))).await?;
        Ok((response.kvs.pop(), response.revision))
    }

    /// Writes a key, whatever is there, and returns the revision.
    ///
    /// # Errors
    /// As [`Store::txn`].
    async fn put(&self, key: Key, value: Value, lease: LeaseId) -> Result<Revision> {
        let put = Op::Put(PutOp { key, value, lease, ..PutOp::default() });
        Ok(self.txn(Txn { success: vec![put], ..Txn::default() }).await?.revision)
    }

    /// Writes a key if its last change is `expected`; 0 means that it must not exist. One round trip also when it
    /// conflicts: the answer has what is there.
    ///
    /// # Errors
    /// As [`Store::txn`].
    async fn put_if(&self, key: Key, expected: Revision, value: Value, lease: LeaseId) -> Result<Conditional> {
        let put = Op::Put(PutOp { key: key.clone(), value, lease, ..PutOp::default() });
        conditional(self.txn(guarded(key, expected, put)).await?)
    }

    /// Deletes a key if its last change is `expected`.
    ///
    /// # Errors
    /// As [`Store::txn`].
    async fn delete_if(&self, key: Key, expected: Revision) -> Result<Conditional> {
        let delete = Op::delete(key.clone());
        conditional(self.txn(guarded(key, expected, delete)).await?)
    }
}

fn guarded(key: Key, expected: Revision, op: Op) -> Txn {
    Txn { compares: vec![Compare::mod_revision(key.clone(), expected)], success: vec![op], failure: vec![Op::get(key)] }
}

fn conditional(response: TxnResponse) -> Result<Conditional> {
    let revision = response.revision;
    if response.succeeded {
        return Ok(Conditional::Applied { revision });
    }
    match response.responses.into_iter().next() {
        Some(OpResponse::Range(mut range)) => Ok(Conditional::Conflict { current: range.kvs.pop(), revision }),
        _ => Err(Error::Invalid("the engine answered a conditional write without the current value")),
    }
}
