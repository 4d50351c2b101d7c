//! The Watch service: many watches on one stream.
//!
//! Each watch has a task that reads the store and writes to the stream's one bounded queue, so a client that stops reading
//! stops the reading of the log, and nothing piles up. A question for progress is answered for the whole stream,
//! with watch id -1, after every watch has said that it delivered everything up to then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream::BoxStream};
use grpc::{
    etcdserverpb::{
        WatchCreateRequest, WatchRequest, WatchResponse, watch_create_request::FilterType, watch_request::RequestUnion,
        watch_server::Watch,
    },
    mvccpb,
    prost::Message,
    tonic::{Request, Response, Status, Streaming},
};
use parking_lot::Mutex;
use rt::sync::mpsc;
use store::{Error, EventKind, ProgressRequester, Store, WatchMessage, Watcher};

use crate::{
    convert::{self, Identity},
    errors::status,
};

/// Answers that wait for the client; each may hold [`ANSWER_BYTES`].
const QUEUE: usize = 16;
/// An answer takes ready revisions up to about this size, and a larger one is cut for clients that can join it.
const ANSWER_BYTES: usize = 1 << 20;
/// The id under which the whole stream's progress is told.
const ALL: i64 = -1;

/// See the module.
pub(crate) struct WatchService {
    pub store: Arc<dyn Store>,
    pub identity: Identity,
}

#[async_trait]
impl Watch for WatchService {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, queue) = mpsc::channel(QUEUE);
        let session = Session {
            store: self.store.clone(),
            out: Out { identity: self.identity, answers, round: Arc::default() },
            watches: BTreeMap::new(),
            next_id: 0,
        };
        rt::spawn("etcd-watch", session.run(request.into_inner()));
        let answers =
            futures::stream::unfold(queue, |mut queue| async move { queue.recv().await.map(|answer| (answer, queue)) });
        Ok(Response::new(answers.boxed()))
    }
}

/// One stream.
struct Session {
    store: Arc<dyn Store>,
    out: Out,
    watches: BTreeMap<i64, Running>,
    next_id: i64,
}

struct Running {
    task: rt::JoinHandle<()>,
    progress: ProgressRequester,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Session {
    /// Handles requests until the client goes away; then all its watches end.
    async fn run(mut self, mut requests: Streaming<WatchRequest>) {
        loop {
            let closed = self.out.answers.clone();
            let request = rt::select! {
                request = requests.message() => request,
                () = closed.closed() => return,
            };
            let done = match request {
                Ok(Some(WatchRequest { request_union: Some(request) })) => self.handle(request).await,
                Ok(Some(_)) => Ok(()),
                // The client has no more requests; its watches go on until it drops the answers.
                Ok(None) => return self.out.answers.closed().await,
                Err(error) => {
                    tracing::debug!(%error, "watch stream ended");
                    return;
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn handle(&mut self, request: RequestUnion) -> Result<(), Gone> {
        match request {
            RequestUnion::CreateRequest(request) => self.create(request).await,
            RequestUnion::CancelRequest(request) => self.cancel(request.watch_id).await,
            RequestUnion::ProgressRequest(_) => self.progress().await,
        }
    }

    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Gone> {
        let id = match request.watch_id {
            0 => {
                while self.watches.contains_key(&self.next_id) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
            id if self.watches.contains_key(&id) => {
                return self.refuse("etcdserver: mvcc: duplicate watch ID provided on the WatchStream").await;
            }
            id => id,
        };
        // An empty key stands for the first one here, other than in a range.
        let key = if request.key.is_empty() { vec![0].into() } else { request.key };
        let wanted = store::WatchRequest {
            range: convert::range(key, request.range_end),
            start_revision: request.start_revision.max(0),
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
        };
        let revision = self.store.current_revision().await;
        let watcher = match (self.store.watch(wanted).await, &revision) {
            (Ok(watcher), Ok(_)) => watcher,
            (Err(error), _) => return self.refuse(status(error).message()).await,
            (_, Err(error)) => return self.refuse(status(error.clone()).message()).await,
        };
        self.out.send(WatchResponse { watch_id: id, created: true, ..self.out.answer(revision.unwrap_or(0)) }).await?;
        let filters = request.filters.iter().filter_map(|filter| FilterType::try_from(*filter).ok());
        let watch = One {
            id,
            out: self.out.clone(),
            fragment: request.fragment,
            hidden: filters
                .map(|filter| if filter == FilterType::Noput { EventKind::Put } else { EventKind::Delete })
                .collect(),
            skipped: 0,
        };
        let progress = watcher.progress_requester();
        let task = rt::spawn("etcd-watch-one", watch.run(watcher));
        self.watches.insert(id, Running { task, progress });
        Ok(())
    }

    async fn refuse(&self, reason: &str) -> Result<(), Gone> {
        let revision = self.store.current_revision().await.unwrap_or(0);
        let answer = WatchResponse {
            watch_id: ALL,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..self.out.answer(revision)
        };
        self.out.send(answer).await
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Gone> {
        // No answer for a watch that is not there, as etcd.
        let Some(mut running) = self.watches.remove(&id) else { return Ok(()) };
        running.task.abort();
        // It must have said its last word before the client hears of the end.
        let _ = (&mut running.task).await;
        let revision = self.store.current_revision().await.unwrap_or(0);
        self.out.send(WatchResponse { watch_id: id, canceled: true, ..self.out.answer(revision) }).await?;
        self.out.ended(id).await
    }

    async fn progress(&mut self) -> Result<(), Gone> {
        self.watches.retain(|_, running| !running.task.is_finished());
        let Ok(revision) = self.store.current_revision().await else { return Ok(()) };
        if self.watches.is_empty() {
            return self.out.send(WatchResponse { watch_id: ALL, ..self.out.answer(revision) }).await;
        }
        *self.out.round.lock() = Some(Round { missing: self.watches.keys().copied().collect(), revision: i64::MAX });
        for running in self.watches.values() {
            running.progress.request();
        }
        Ok(())
    }
}

/// The client has gone.
struct Gone;

/// A question for progress that is not yet answered.
struct Round {
    /// Watches that have not said where they are.
    missing: BTreeSet<i64>,
    /// The lowest position said.
    revision: i64,
}

/// The way to the client, shared by the watches of a stream.
#[derive(Clone)]
struct Out {
    identity: Identity,
    answers: mpsc::Sender<Result<WatchResponse, Status>>,
    round: Arc<Mutex<Option<Round>>>,
}

impl Out {
    fn answer(&self, revision: i64) -> WatchResponse {
        WatchResponse { header: self.identity.header(revision), ..WatchResponse::default() }
    }

    async fn send(&self, answer: WatchResponse) -> Result<(), Gone> {
        self.answers.send(Ok(answer)).await.map_err(|_| Gone)
    }

    /// A watch says that it delivered everything up to `revision`.
    async fn reached(&self, id: i64, revision: i64) -> Result<(), Gone> {
        let (asked, finished) = self.count(id, revision);
        if let Some(revision) = finished {
            return self.send(WatchResponse { watch_id: ALL, ..self.answer(revision) }).await;
        }
        if asked { Ok(()) } else { self.send(WatchResponse { watch_id: id, ..self.answer(revision) }).await }
    }

    /// A watch that has ended holds up no answer.
    async fn ended(&self, id: i64) -> Result<(), Gone> {
        match self.count(id, i64::MAX) {
            (_, Some(revision)) if revision != i64::MAX => {
                self.send(WatchResponse { watch_id: ALL, ..self.answer(revision) }).await
            }
            _ => Ok(()),
        }
    }

    /// Whether the watch was asked, and the answer to the question if this was the last that it waited for.
    fn count(&self, id: i64, revision: i64) -> (bool, Option<i64>) {
        let mut slot = self.round.lock();
        let Some(round) = slot.as_mut() else { return (false, None) };
        let asked = round.missing.remove(&id);
        if asked {
            round.revision = round.revision.min(revision);
        }
        if !round.missing.is_empty() {
            return (asked, None);
        }
        (asked, slot.take().map(|round| round.revision))
    }
}

/// One watch.
struct One {
    id: i64,
    out: Out,
    fragment: bool,
    /// Kinds of events that the client does not want.
    hidden: Vec<EventKind>,
    /// The last revision of which nothing was left after the filters.
    skipped: i64,
}

/// What one turn of reading found.
#[derive(Default)]
struct Turn {
    events: Vec<mvccpb::Event>,
    bytes: usize,
    revision: i64,
    progress: Option<i64>,
    end: Option<Option<Error>>,
}

impl One {
    async fn run(mut self, mut watcher: Watcher) {
        loop {
            let turn = self.read(&mut watcher).await;
            if self.tell(turn).await.is_err() {
                return;
            }
        }
    }

    /// Waits for one message and takes what else is ready.
    async fn read(&mut self, watcher: &mut Watcher) -> Turn {
        let mut turn = Turn::default();
        let mut item = watcher.next().await;
        loop {
            match item {
                None => turn.end = Some(None),
                Some(Err(error)) => turn.end = Some(Some(error)),
                Some(Ok(WatchMessage::Progress { revision })) => turn.progress = Some(revision),
                Some(Ok(WatchMessage::Events { revision, events })) => {
                    let events = events.into_iter().filter(|event| !self.hidden.contains(&event.kind));
                    for event in events.map(convert::event) {
                        turn.bytes += event.encoded_len();
                        turn.events.push(event);
                    }
                    turn.revision = revision;
                    self.skipped = revision;
                }
            }
            if turn.end.is_some() || turn.progress.is_some() || turn.bytes >= ANSWER_BYTES {
                return turn;
            }
            match watcher.next().now_or_never() {
                Some(next) => item = next,
                None => return turn,
            }
        }
    }

    async fn tell(&self, turn: Turn) -> Result<(), Gone> {
        if !turn.events.is_empty() {
            self.events(turn.events, turn.revision).await?;
        }
        if let Some(revision) = turn.progress {
            self.out.reached(self.id, revision).await?;
        }
        match turn.end {
            None => Ok(()),
            Some(error) => {
                self.finish(error).await?;
                Err(Gone)
            }
        }
    }

    async fn events(&self, events: Vec<mvccpb::Event>, revision: i64) -> Result<(), Gone> {
        let mut rest = events.into_iter().peekable();
        while rest.peek().is_some() {
            let mut part = Vec::new();
            let mut bytes = 0;
            while let Some(event) = rest
                .next_if(|event| !self.fragment || part.is_empty() || bytes + event.encoded_len() <= 2 * ANSWER_BYTES)
            {
                bytes += event.encoded_len();
                part.push(event);
            }
            let fragment = rest.peek().is_some();
            let answer = WatchResponse { watch_id: self.id, events: part, fragment, ..self.out.answer(revision) };
            self.out.send(answer).await?;
        }
        Ok(())
    }

    async fn finish(&self, error: Option<Error>) -> Result<(), Gone> {
        let Some(error) = error else {
            // The store was closed: the whole stream ends, or the connection could not drain.
            let stopped = Status::unavailable(grpc::etcd_errors::STOPPED);
            return self.out.answers.send(Err(stopped)).await.map_err(|_| Gone);
        };
        let mut answer = WatchResponse { watch_id: self.id, canceled: true, ..self.out.answer(self.skipped) };
        match error {
            Error::Compacted { compacted, .. } => {
                answer.compact_revision = compacted;
                answer.cancel_reason = grpc::etcd_errors::COMPACTED.to_owned();
            }
            error => answer.cancel_reason = status(error).message().to_owned(),
        }
        self.out.send(answer).await?;
        self.out.ended(self.id).await
    }
}
