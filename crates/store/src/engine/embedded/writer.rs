//! The one writer: takes requests from a bounded queue, makes one durable commit of all that wait, then publishes and
//! answers them in order.

use std::sync::Arc;

use rt::sync::{mpsc, oneshot};

use super::{Core, apply::Applier, backend::Batch, check, hub::Commit, lessor::MAX_TTL};
use crate::{Error, Key, LeaseId, Result, Revision, Txn, TxnResponse};

/// Requests in one commit.
const MAX_BATCH: usize = 1024;
/// Keys and values in one commit, roughly.
const MAX_BATCH_BYTES: usize = 16 << 20;
/// Keys that one commit cleans after a compaction.
const CLEAN_STEP: usize = 4096;

/// Longest time that [`Writer::gather`] waits; a fraction of a commit.
const GATHER: std::time::Duration = std::time::Duration::from_micros(300);

/// The sender of an answer.
pub(crate) type Answer<T> = oneshot::Sender<Result<T>>;

/// Work for the writer.
#[derive(Debug)]
pub(crate) enum Request {
    Txn(Txn, Answer<TxnResponse>),
    Compact(Revision, Answer<()>),
    Grant { id: LeaseId, ttl: i64, answer: Answer<i64> },
    Revoke(LeaseId, Answer<Revision>),
    Close(Answer<()>),
}

impl Request {
    fn bytes(&self) -> usize {
        if let Self::Txn(txn, _) = self { check::bytes(txn) } else { 0 }
    }
}

/// Gives a request its result, or the error that the whole commit met.
type Ack = Box<dyn FnOnce(Option<Error>) + Send>;

fn ack<T: Send + 'static>(answer: Answer<T>, result: Result<T>) -> Ack {
    // A requester that has gone away does not want its answer.
    Box::new(move |failure| drop(answer.send(failure.map_or(result, Err))))
}

/// See the module.
pub(crate) struct Writer {
    core: Arc<Core>,
    queue: mpsc::Receiver<Request>,
    /// A compaction whose old records are still being deleted, and the key to go on from.
    cleaning: Option<(Revision, Key)>,
    closed: bool,
    /// Requests in the last commit.
    last: usize,
}

impl Writer {
    pub fn new(core: Arc<Core>, queue: mpsc::Receiver<Request>) -> Self {
        Self { core, queue, cleaning: None, closed: false, last: 0 }
    }

    /// Runs on a thread of its own, for backends that block.
    pub fn run_blocking(mut self, done: oneshot::Sender<()>) {
        while !self.closed {
            let first = if self.cleaning.is_some() { self.queue.try_recv().ok() } else { self.queue.blocking_recv() };
            if first.is_none() && self.cleaning.is_none() {
                break;
            }
            self.gather();
            self.turn(first);
        }
        self.end(done);
    }

    /// Gives the writers that the last commit answered a moment to come back, so that they share the next commit too
    /// and do not fall into two groups that wait for each other's. A single writer never waits.
    fn gather(&self) {
        let start = std::time::Instant::now();
        while self.queue.len() + 1 < self.last && start.elapsed() < GATHER {
            std::thread::yield_now();
        }
    }

    /// Runs as a task, for backends that do not.
    pub async fn run(mut self, done: oneshot::Sender<()>) {
        while !self.closed {
            let first = if self.cleaning.is_some() { self.queue.try_recv().ok() } else { self.queue.recv().await };
            if first.is_none() && self.cleaning.is_none() {
                break;
            }
            self.turn(first);
        }
        self.end(done);
    }

    /// Ends all watches and lets go of the backend before it says so.
    fn end(self, done: oneshot::Sender<()>) {
        drop(self);
        // Nobody waits if the store was dropped and not closed.
        let _ = done.send(());
    }

    /// Handles `first` and what else waits.
    fn turn(&mut self, first: Option<Request>) {
        let mut bytes = 0;
        let mut requests = Vec::new();
        let mut next = first;
        while let Some(request) = next {
            bytes += request.bytes();
            requests.push(request);
            let full = requests.len() >= MAX_BATCH || bytes >= MAX_BATCH_BYTES;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        self.last = requests.len();
        let mut requests = requests.into_iter().peekable();
        loop {
            self.commit_some(&mut requests);
            if requests.peek().is_none() {
                return;
            }
        }
    }

    /// Makes one commit. It ends before and after the end of a lease, which must see all attachments.
    fn commit_some(&mut self, requests: &mut std::iter::Peekable<impl Iterator<Item = Request>>) {
        let core = self.core.clone();
        let mut applier = match Applier::new(&core) {
            Ok(applier) => applier,
            Err(error) => {
                tracing::error!(%error, "the store cannot read");
                self.cleaning = None;
                requests.for_each(|request| refuse(request, &error));
                return;
            }
        };
        self.clean(&mut applier);
        let mut acks: Vec<Ack> = Vec::new();
        let mut first = true;
        while let Some(request) = requests.next_if(|next| first || !matches!(next, Request::Revoke(..))) {
            let last = matches!(request, Request::Revoke(..));
            acks.push(self.apply(&mut applier, request));
            first = false;
            if last {
                break;
            }
        }
        let (batch, commits) = applier.finish();
        let failure = self.make_durable(&batch, commits).err();
        for ack in acks {
            ack(failure.clone());
        }
    }

    fn apply(&mut self, applier: &mut Applier<'_>, request: Request) -> Ack {
        match request {
            Request::Txn(txn, answer) => ack(answer, applier.txn(&txn)),
            Request::Grant { id, ttl, answer } => ack(answer, grant(applier, id, ttl)),
            Request::Revoke(id, answer) => ack(answer, applier.revoke(id)),
            Request::Compact(revision, answer) => ack(answer, self.compact(applier, revision)),
            Request::Close(answer) => {
                self.closed = true;
                self.queue.close();
                ack(answer, Ok(()))
            }
        }
    }

    fn compact(&self, applier: &mut Applier<'_>, revision: Revision) -> Result<()> {
        let compacted = applier.batch_mut().compacted.unwrap_or(self.core.index.read().compacted());
        if revision <= compacted {
            return Err(Error::Compacted { requested: revision, compacted });
        }
        if revision > applier.head() {
            return Err(Error::FutureRevision { requested: revision, current: applier.head() });
        }
        applier.batch_mut().compacted = Some(revision);
        Ok(())
    }

    /// Takes one step of cleaning into the batch. Readers below the compaction were refused before.
    fn clean(&mut self, applier: &mut Applier<'_>) {
        let Some((revision, from)) = self.cleaning.take() else { return };
        let (removed, next) = self.core.index.write().compact(revision, &from, CLEAN_STEP);
        applier.batch_mut().deletes = removed;
        self.cleaning = next.map(|next| (revision, next));
    }

    fn make_durable(&mut self, batch: &Batch, commits: Vec<Arc<Commit>>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.core.backend.commit(batch) {
            tracing::error!(%error, records = batch.records.len(), "the store cannot write");
            Applier::undo(&self.core, batch);
            return Err(error);
        }
        Applier::attach(&self.core, batch);
        if let Some(revision) = batch.compacted {
            self.core.index.write().set_compacted(revision);
            self.cleaning = Some((revision, Key::new()));
        }
        self.core.hub.publish(commits);
        if !batch.granted.is_empty() {
            self.core.lease_granted.notify_one();
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// Also when it panics: without a writer nothing happens any more, and watches must not wait for it.
    fn drop(&mut self) {
        self.core.hub.close();
    }
}

fn grant(applier: &mut Applier<'_>, id: LeaseId, ttl: i64) -> Result<i64> {
    if applier.lease_exists(id) {
        return Err(Error::LeaseExists(id));
    }
    // etcd raises a time to live that is too short, and refuses one that is too long.
    if ttl > MAX_TTL {
        return Err(Error::LeaseTtl(ttl));
    }
    let ttl = ttl.max(1);
    applier.batch_mut().granted.push((id, ttl));
    Ok(ttl)
}

fn refuse(request: Request, error: &Error) {
    let error = Some(error.clone());
    match request {
        Request::Txn(_, answer) => ack(answer, Err(Error::Closed))(error),
        Request::Grant { answer, .. } => ack(answer, Err(Error::Closed))(error),
        Request::Revoke(_, answer) => ack(answer, Err(Error::Closed))(error),
        Request::Compact(_, answer) | Request::Close(answer) => ack(answer, Err(Error::Closed))(error),
    }
}
