//! The embedded engine: history in LMDB or in memory, key index in memory, one writer with group commit.
//!
//! A write goes queue → [`writer`] → batch → one durable commit → published in the [`hub`] → acknowledged. A read takes
//! the last published revision, finds record ids in the [`index`] and the records in the [`backend`]. A watch
//! [follows](follow) the hub.

mod apply;
mod backend;
pub(crate) mod check;
mod follow;
mod hub;
mod index;
mod lessor;
mod lmdb;
mod record;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use rt::sync::{Notify, mpsc, oneshot};

use self::{
    backend::{Backend, Memory},
    follow::Follower,
    hub::Hub,
    index::Index,
    lessor::Lessor,
    lmdb::Lmdb,
    view::View,
    writer::{Answer, Request, Writer},
};
use crate::{
    Error, Lease, LeaseId, LeaseStatus, RangeRequest, RangeResponse, Result, Revision, Status, Store, Txn, TxnResponse,
    WatchRequest, Watcher, engine::snapshot,
};

/// Requests that may wait for the writer; more wait in their callers.
const QUEUE: usize = 8192;
/// Reads of up to this many keys run in place, larger ones on a thread for blocking work.
const SMALL_READ: usize = 32;
/// Leases ended by one turn of the clock.
const EXPIRE_STEP: usize = 256;

/// How to run an embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Bytes of recent history that are kept in memory for watches.
    pub log_bytes: usize,
    /// Most operations in one transaction.
    pub max_txn_ops: usize,
    /// Most bytes of keys and values in one transaction.
    pub max_request_bytes: usize,
    /// Refuse writes when the database is larger than this; 0 is no limit.
    pub quota_bytes: u64,
    /// How often an idle watch that asked for progress gets it.
    pub progress_interval: Duration,
}

impl Default for EmbeddedOptions {
    /// etcd's limits.
    fn default() -> Self {
        Self {
            log_bytes: 4 << 20,
            max_txn_ops: 128,
            max_request_bytes: 3 << 19,
            quota_bytes: 0,
            progress_interval: follow::PROGRESS_INTERVAL,
        }
    }
}

/// What reads, watches and the writer share.
pub(crate) struct Core {
    backend: Box<dyn Backend>,
    index: RwLock<Index>,
    hub: Hub,
    lessor: Mutex<Lessor>,
    lease_granted: Notify,
    progress_interval: Duration,
}

impl Core {
    fn load(backend: Box<dyn Backend>, options: &EmbeddedOptions) -> Result<Self> {
        let mut index = Index::default();
        let mut lessor = Lessor::default();
        let mut head = 1;
        let mut leased = std::collections::BTreeMap::new();
        let loaded = backend.load(&mut |record| {
            head = record.id.revision;
            index.push(record.key, record.id, record.tombstone);
            if record.lease != 0 {
                leased.insert(record.key.to_vec(), record.lease);
            } else if !leased.is_empty() {
                leased.remove(record.key);
            }
        })?;
        index.set_compacted(loaded.compacted);
        for (id, ttl) in loaded.leases {
            lessor.grant(id, ttl);
        }
        for (key, lease) in &leased {
            lessor.attach(key, *lease);
        }
        Ok(Self {
            backend,
            index: RwLock::new(index),
            hub: Hub::new(head.max(loaded.compacted), options.log_bytes),
            lessor: Mutex::new(lessor),
            lease_granted: Notify::new(),
            progress_interval: options.progress_interval,
        })
    }

    /// Runs `read` at the current revision; again if a compaction overtook it.
    fn read<T>(&self, read: impl Fn(&View<'_>, Revision) -> Result<T>) -> Result<T> {
        loop {
            let head = self.hub.head();
            let reader = self.backend.reader()?;
            let result = read(&View { index: &self.index, reader: &*reader, pending: &[] }, head);
            match result {
                Err(Error::Compacted { requested, .. }) if requested == head && head < self.hub.head() => {}
                result => return result,
            }
        }
    }
}

/// The embedded engine; see the module.
pub struct Embedded {
    core: Arc<Core>,
    queue: mpsc::Sender<Request>,
    options: EmbeddedOptions,
    tasks: Mutex<Option<Tasks>>,
}

/// What runs beside the store, and must have ended when it is closed.
struct Tasks {
    writer: oneshot::Receiver<()>,
    leases: rt::JoinHandle<()>,
}

impl Embedded {
    /// Opens or creates the store in a directory and starts its writer.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has it, [`Error::FormatTooNew`], [`Error::Corrupt`], [`Error::Io`].
    pub async fn open(dir: impl Into<PathBuf>, options: EmbeddedOptions) -> Result<Arc<Self>> {
        let dir = dir.into();
        let load = move || {
            let lmdb = Lmdb::open(&dir, options.quota_bytes)?;
            Ok((Core::load(Box::new(lmdb), &options)?, options))
        };
        let (core, options) =
            rt::spawn_blocking(load).await.map_err(|source| Error::engine("open the store", source))??;
        Self::start(core, options)
    }

    /// A store in memory, gone with its last handle. For simulation and tests; needs a running executor.
    ///
    /// # Errors
    /// None that are known.
    pub fn memory(options: EmbeddedOptions) -> Result<Arc<Self>> {
        let core = Core::load(Box::<Memory>::default(), &options)?;
        Self::start(core, options)
    }

    fn start(core: Core, options: EmbeddedOptions) -> Result<Arc<Self>> {
        let core = Arc::new(core);
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = Writer::new(core.clone(), requests);
        let (done, ended) = oneshot::channel();
        if core.backend.blocks() {
            std::thread::Builder::new()
                .name("store-writer".to_owned())
                .spawn(move || writer.run_blocking(done))
                .map_err(|source| Error::engine("start the writer", source))?;
        } else {
            rt::spawn("store-writer", writer.run(done));
        }
        let leases = rt::spawn("store-leases", expire_leases(core.clone(), queue.downgrade()));
        let tasks = Mutex::new(Some(Tasks { writer: ended, leases }));
        Ok(Arc::new(Self { core, queue, options, tasks }))
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
        ask(&self.queue, request).await
    }
}

async fn ask<T>(queue: &mpsc::Sender<Request>, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
    let (answer, result) = oneshot::channel();
    queue.send(request(answer)).await.map_err(|_| Error::Closed)?;
    result.await.map_err(|_| Error::Closed)?
}

/// Ends leases when their time is over. It holds the queue weakly, so that it ends with the store.
async fn expire_leases(core: Arc<Core>, queue: mpsc::WeakSender<Request>) {
    loop {
        let next = core.lessor.lock().next_end();
        match next {
            None => core.lease_granted.notified().await,
            Some(end) => {
                rt::select! {
                    biased;
                    () = rt::time::sleep_until(end) => {}
                    () = core.lease_granted.notified() => {}
                }
            }
        }
        let ended = core.lessor.lock().ended(EXPIRE_STEP);
        let Some(queue) = queue.upgrade() else { return };
        if core.hub.is_closed() {
            return;
        }
        for id in ended {
            match ask(&queue, |answer| Request::Revoke(id, answer)).await {
                Ok(_) | Err(Error::LeaseNotFound(_)) => {}
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(lease = id, %error, "cannot end a lease");
                    rt::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Wakes the task that ends leases, so that it sees the queue gone; the writer ends with the queue.
        self.core.hub.close();
        self.core.lease_granted.notify_one();
    }
}

#[async_trait]
impl Store for Embedded {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        check::given(&request.range)?;
        if self.core.hub.is_closed() {
            return Err(Error::Closed);
        }
        let small =
            request.range.is_single() || request.count_only || (request.limit > 0 && request.limit <= SMALL_READ);
        let core = self.core.clone();
        let read = move || core.read(|view, head| view.range(&request, head));
        if small || !self.core.backend.blocks() {
            return read();
        }
        rt::spawn_blocking(read).await.map_err(|source| Error::engine("read", source))?
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        check::check(&txn, self.options.max_txn_ops, self.options.max_request_bytes)?;
        if !check::may_write(&txn) {
            return self.core.read(|view, head| view.read_txn(&txn, head));
        }
        self.ask(|answer| Request::Txn(txn, answer)).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<Watcher> {
        check::given(&request.range)?;
        if self.core.hub.is_closed() {
            return Err(Error::Closed);
        }
        let follower = Follower::new(self.core.clone(), request);
        let progress = crate::ProgressRequester::new(follower.progress_handle());
        Ok(Watcher::new(Box::new(follower), progress))
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.ask(|answer| Request::Compact(revision, answer)).await
    }

    async fn current_revision(&self) -> Result<Revision> {
        Ok(self.core.hub.head())
    }

    async fn lease_grant(&self, ttl: i64, id: LeaseId) -> Result<Lease> {
        if id < 0 {
            return Err(Error::Invalid("a lease id is not negative"));
        }
        let id = if id == 0 { (rt::rand::u64() >> 1).max(1) as i64 } else { id };
        let ttl = self.ask(|answer| Request::Grant { id, ttl, answer }).await?;
        Ok(Lease { id, ttl, revision: self.core.hub.head() })
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision> {
        self.ask(|answer| Request::Revoke(id, answer)).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease> {
        let ttl = self.core.lessor.lock().keep_alive(id)?;
        Ok(Lease { id, ttl, revision: self.core.hub.head() })
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus> {
        let status = self.core.lessor.lock().status(id, keys);
        Ok(LeaseStatus { revision: self.core.hub.head(), ..status })
    }

    async fn lease_list(&self) -> Result<Vec<LeaseId>> {
        Ok(self.core.lessor.lock().ids())
    }

    async fn status(&self) -> Result<Status> {
        let (db_size, db_size_in_use) = self.core.backend.size()?;
        Ok(Status {
            engine: self.core.backend.name().to_owned(),
            revision: self.core.hub.head(),
            compacted_revision: self.core.index.read().compacted(),
            db_size,
            db_size_in_use,
        })
    }

    async fn snapshot(&self, file: &Path) -> Result<Revision> {
        snapshot::save(self, file).await
    }

    async fn defragment(&self) -> Result<()> {
        // LMDB uses free pages again by itself, and cannot shrink a file that is open; the next start does.
        Ok(())
    }

    async fn close(&self) {
        if let Err(error) = self.ask(Request::Close).await
            && !matches!(error, Error::Closed)
        {
            tracing::warn!(%error, "the store did not close cleanly");
        }
        self.core.hub.close();
        let tasks = self.tasks.lock().take();
        if let Some(Tasks { writer, leases }) = tasks {
            leases.abort();
            // Both say only that the task is over, which is what is waited for.
            let _ = writer.await;
            let _ = leases.await;
        }
    }
}

/// Writes a fresh data directory from records; used by restore.
pub(crate) fn import(
    dir: &Path,
    revision: Revision,
    kvs: impl Iterator<Item = Result<crate::KeyValue>>,
    leases: Vec<(LeaseId, i64)>,
) -> Result<()> {
    let lmdb = Lmdb::open(dir, 0)?;
    let mut fresh = true;
    lmdb.load(&mut |_| fresh = false)?;
    if !fresh {
        return Err(Error::Invalid("the data directory is not empty"));
    }
    let mut kvs: Vec<_> = kvs.collect::<Result<_>>()?;
    kvs.sort_by(|a, b| (a.mod_revision, &a.key).cmp(&(b.mod_revision, &b.key)));
    let mut id = record::RecordId::default();
    let records = kvs.into_iter().map(|kv| {
        let sub = if kv.mod_revision == id.revision { id.sub + 1 } else { 0 };
        id = record::RecordId { revision: kv.mod_revision, sub };
        record::Record {
            id,
            key: kv.key,
            value: kv.value,
            create_revision: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
            prev: None,
            tombstone: false,
        }
    });
    let batch =
        backend::Batch { records: records.collect(), granted: leases, compacted: Some(revision), ..Default::default() };
    lmdb.commit(&batch)
}
