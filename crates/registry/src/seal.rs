//! Encryption at rest: a transformer of values between a resource's storage and the store.
//!
//! [`Sealed`] is a [`Store`] in front of another one: values go through the resource's [`Transformer`] on their way down
//! and up; keys, revisions and leases pass as they are. What is above (cache, writes, lists) sees plain values only.
//! Which transformer a resource has is asked for on every call, so that a new configuration works at once.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use meta::GroupResource;
use store::{
    Conditional, Event, KeyValue, Lease, LeaseId, LeaseStatus, Op, OpResponse, ProgressRequester, RangeRequest,
    RangeResponse, Revision, Store, Txn, TxnResponse, WatchMessage, WatchRequest, WatchSource, Watcher,
};

/// A value read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The plain value.
    pub value: Bytes,
    /// Whether the next write should be done even when the object did not change, because the value is not sealed the way
    /// that new values are.
    pub stale: bool,
}

/// A value cannot be sealed or opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SealError {
    /// What is wrong, without the value.
    pub message: String,
}

impl SealError {
    /// An error with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// Seals and opens the values of a resource. The key is authenticated along with the value by those that can.
#[async_trait]
pub trait Transformer: Send + Sync {
    /// Opens a value.
    ///
    /// # Errors
    /// It was not sealed by any of the known keys, or it was changed.
    async fn open(&self, key: &[u8], value: Bytes) -> Result<Opened, SealError>;

    /// Seals a value.
    ///
    /// # Errors
    /// The key service does not answer.
    async fn seal(&self, key: &[u8], value: Bytes) -> Result<Bytes, SealError>;
}

/// Knows each resource's transformer.
pub trait Sealer: Send + Sync {
    /// The transformer; `None` when values are kept as they are.
    fn transformer(&self, resource: &GroupResource) -> Option<Arc<dyn Transformer>>;
}

/// A store that seals and opens the values of one resource.
pub(crate) struct Sealed {
    inner: Arc<dyn Store>,
    sealer: Arc<dyn Sealer>,
    resource: GroupResource,
}

fn failed(action: &'static str, error: SealError) -> store::Error {
    store::Error::Engine { action, source: Arc::new(error) }
}

async fn open(transformer: &dyn Transformer, kv: &mut KeyValue) -> store::Result<()> {
    // Values left out of the answer are empty, and so is no stored object.
    if kv.value.is_empty() {
        return Ok(());
    }
    let opened = transformer.open(&kv.key, kv.value.clone()).await;
    kv.value = opened.map_err(|e| failed("open a sealed value", e))?.value;
    Ok(())
}

async fn open_all(transformer: &dyn Transformer, kvs: &mut [KeyValue]) -> store::Result<()> {
    for kv in kvs {
        open(transformer, kv).await?;
    }
    Ok(())
}

async fn open_events(transformer: &dyn Transformer, events: &mut [Event]) -> store::Result<()> {
    for event in events {
        open(transformer, &mut event.kv).await?;
        if let Some(before) = &mut event.prev_kv {
            open(transformer, before).await?;
        }
    }
    Ok(())
}

impl Sealed {
    pub(crate) fn new(inner: Arc<dyn Store>, sealer: Arc<dyn Sealer>, resource: GroupResource) -> Self {
        Self { inner, sealer, resource }
    }

    fn transformer(&self) -> Option<Arc<dyn Transformer>> {
        self.sealer.transformer(&self.resource)
    }

    /// Whether a key's value should be sealed anew although the object is the same.
    pub(crate) async fn stale(&self, key: Bytes) -> store::Result<bool> {
        let Some(transformer) = self.transformer() else { return Ok(false) };
        let Some(kv) = self.inner.get(key).await?.0 else { return Ok(false) };
        let opened = transformer.open(&kv.key, kv.value).await;
        Ok(opened.map_err(|e| failed("open a sealed value", e))?.stale)
    }

    async fn seal(&self, key: &[u8], value: Bytes) -> store::Result<Bytes> {
        match self.transformer() {
            None => Ok(value),
            Some(transformer) => transformer.seal(key, value).await.map_err(|e| failed("seal a value", e)),
        }
    }

    async fn open_conditional(&self, mut done: Conditional) -> store::Result<Conditional> {
        if let (Conditional::Conflict { current: Some(kv), .. }, Some(transformer)) = (&mut done, self.transformer()) {
            open(&*transformer, kv).await?;
        }
        Ok(done)
    }
}

#[async_trait]
impl Store for Sealed {
    async fn range(&self, request: RangeRequest) -> store::Result<RangeResponse> {
        let mut response = self.inner.range(request).await?;
        if let Some(transformer) = self.transformer() {
            open_all(&*transformer, &mut response.kvs).await?;
        }
        Ok(response)
    }

    async fn txn(&self, mut txn: Txn) -> store::Result<TxnResponse> {
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match op {
                Op::Put(put) => put.value = self.seal(&put.key, put.value.clone()).await?,
                Op::Txn(_) => return Err(store::Error::Unsupported("a transaction inside one on sealed values")),
                Op::DeleteRange { .. } | Op::Range(_) => {}
            }
        }
        let mut response = self.inner.txn(txn).await?;
        if let Some(transformer) = self.transformer() {
            for answer in &mut response.responses {
                match answer {
                    OpResponse::Put { prev_kv: Some(kv) } => open(&*transformer, kv).await?,
                    OpResponse::DeleteRange { prev_kvs, .. } => open_all(&*transformer, prev_kvs).await?,
                    OpResponse::Range(range) => open_all(&*transformer, &mut range.kvs).await?,
                    OpResponse::Put { prev_kv: None } | OpResponse::Txn(_) => {}
                }
            }
        }
        Ok(response)
    }

    async fn watch(&self, request: WatchRequest) -> store::Result<Watcher> {
        let watcher = self.inner.watch(request).await?;
        let progress: ProgressRequester = watcher.progress_requester();
        let source = SealedSource {
            watcher,
            sealer: self.sealer.clone(),
            resource: self.resource.clone(),
            pending: None,
            revision: 0,
        };
        Ok(Watcher::new(Box::new(source), progress))
    }

    async fn compact(&self, revision: Revision) -> store::Result<()> {
        self.inner.compact(revision).await
    }

    async fn current_revision(&self) -> store::Result<Revision> {
        self.inner.current_revision().await
    }

    async fn lease_grant(&self, ttl: i64, id: LeaseId) -> store::Result<Lease> {
        self.inner.lease_grant(ttl, id).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> store::Result<Revision> {
        self.inner.lease_revoke(id).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> store::Result<Lease> {
        self.inner.lease_keep_alive(id).await
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> store::Result<LeaseStatus> {
        self.inner.lease_time_to_live(id, keys).await
    }

    async fn lease_list(&self) -> store::Result<Vec<LeaseId>> {
        self.inner.lease_list().await
    }

    async fn status(&self) -> store::Result<store::Status> {
        self.inner.status().await
    }

    async fn snapshot(&self, file: &Path) -> store::Result<Revision> {
        self.inner.snapshot(file).await
    }

    async fn defragment(&self) -> store::Result<()> {
        self.inner.defragment().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    async fn get(&self, key: Bytes) -> store::Result<(Option<KeyValue>, Revision)> {
        let (mut found, revision) = self.inner.get(key).await?;
        if let (Some(kv), Some(transformer)) = (&mut found, self.transformer()) {
            open(&*transformer, kv).await?;
        }
        Ok((found, revision))
    }

    async fn put(&self, key: Bytes, value: Bytes, lease: LeaseId) -> store::Result<Revision> {
        let value = self.seal(&key, value).await?;
        self.inner.put(key, value, lease).await
    }

    async fn put_if(&self, key: Bytes, expected: Revision, value: Bytes, lease: LeaseId) -> store::Result<Conditional> {
        let value = self.seal(&key, value).await?;
        let done = self.inner.put_if(key, expected, value, lease).await?;
        self.open_conditional(done).await
    }

    async fn delete_if(&self, key: Bytes, expected: Revision) -> store::Result<Conditional> {
        let done = self.inner.delete_if(key, expected).await?;
        self.open_conditional(done).await
    }
}

/// A watch whose events are opened.
struct SealedSource {
    watcher: Watcher,
    sealer: Arc<dyn Sealer>,
    resource: GroupResource,
    /// Events that are being opened: kept here, so that a cancelled call loses nothing.
    pending: Option<Vec<Event>>,
    revision: Revision,
}

#[async_trait]
impl WatchSource for SealedSource {
    async fn next(&mut self) -> store::Result<Option<WatchMessage>> {
        if self.pending.is_none() {
            match self.watcher.next().await.transpose()? {
                Some(WatchMessage::Events { revision, events }) => {
                    self.revision = revision;
                    self.pending = Some(events);
                }
                other => return Ok(other),
            }
        }
        let mut events = self.pending.clone().unwrap_or_default();
        if let Some(transformer) = self.sealer.transformer(&self.resource) {
            open_events(&*transformer, &mut events).await?;
        }
        self.pending = None;
        Ok(Some(WatchMessage::Events { revision: self.revision, events }))
    }
}

#[cfg(test)]
mod tests;
