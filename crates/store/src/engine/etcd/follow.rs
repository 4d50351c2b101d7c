//! A watch: one stream, resumed after the last whole revision when it breaks.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use grpc::{
    etcdserverpb::{
        WatchCreateRequest, WatchProgressRequest, WatchRequest as PbRequest, WatchResponse, watch_request::RequestUnion,
    },
    tonic::{Request, Status, Streaming, metadata::MetadataValue},
};
use rt::sync::{Notify, mpsc};

use super::{Client, convert, errors::from_status};
use crate::{Error, Event, ProgressRequester, Result, Revision, WatchMessage, WatchRequest, WatchSource, Watcher};

/// Requests on a watch stream: one to create, then questions for progress.
const OUTGOING: usize = 8;
/// etcd drops a question for progress while a watch catches up, so it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

struct Follower {
    client: Arc<Client>,
    request: WatchRequest,
    /// The first revision not yet delivered; 0 until the first stream says where it began.
    position: Revision,
    stream: Option<Stream>,
    /// Events of an answer that comes in fragments.
    fragments: Vec<Event>,
    ready: VecDeque<WatchMessage>,
    asked: Arc<AtomicU64>,
    told: u64,
    wake: Arc<Notify>,
    backoff: rt::Backoff,
}

struct Stream {
    answers: Streaming<WatchResponse>,
    outgoing: mpsc::Sender<PbRequest>,
    /// The question that was last sent.
    sent: u64,
}

/// Starts a watch and waits until the server has it.
pub(super) async fn start(client: Arc<Client>, request: WatchRequest) -> Result<Watcher> {
    let asked = Arc::<AtomicU64>::default();
    let wake = Arc::<Notify>::default();
    let progress = ProgressRequester::new({
        let (asked, wake) = (asked.clone(), wake.clone());
        move || {
            asked.fetch_add(1, Ordering::AcqRel);
            wake.notify_one();
        }
    });
    let mut follower = Follower {
        client,
        position: request.start_revision,
        request,
        stream: None,
        fragments: Vec::new(),
        ready: VecDeque::new(),
        asked,
        told: 0,
        wake,
        backoff: rt::Backoff::new(Duration::from_millis(50), Duration::from_secs(5)).with_jitter(0.3),
    };
    let deadline = follower.client.request_timeout;
    match rt::time::timeout(deadline, follower.connect()).await {
        // The watch reports it as its first item.
        Ok(Err(Error::Compacted { .. })) | Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(Error::Timeout),
    }
    Ok(Watcher::new(Box::new(follower), progress))
}

#[async_trait]
impl WatchSource for Follower {
    async fn next(&mut self) -> Result<Option<WatchMessage>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            if self.stream.is_none() {
                self.connect().await?;
            }
            match self.receive().await {
                Ok(Some(answer)) => self.take(answer)?,
                Ok(None) => {}
                Err(status) => self.broken(status)?,
            }
        }
    }
}

impl Follower {
    /// Opens a stream and waits for the confirmation; tries again until that works or makes no sense.
    async fn connect(&mut self) -> Result<()> {
        loop {
            match self.try_connect().await {
                Ok(()) => {
                    self.backoff.reset();
                    return Ok(());
                }
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, rv = self.position, "etcd watch not resumed yet");
                    rt::time::sleep(self.backoff.next_delay()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_connect(&mut self) -> Result<()> {
        self.fragments.clear();
        let (key, range_end) = convert::range(&self.request.range);
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: self.position,
            progress_notify: self.request.progress_notify,
            prev_kv: self.request.prev_kv,
            fragment: true,
            ..WatchCreateRequest::default()
        };
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        let create = PbRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        outgoing.try_send(create).map_err(|_| Error::Invalid("a fresh queue is full"))?;
        let requests = futures::stream::unfold(requests, |mut requests| async move {
            requests.recv().await.map(|request| (request, requests))
        });
        let mut call = Request::new(requests);
        // A member that is cut off from the majority must end the watch rather than keep silent.
        call.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let (at, mut client) = self.client.watch();
        let opened = async {
            let mut answers = client.watch(call).await?.into_inner();
            let first = answers.message().await?.ok_or_else(|| Status::unavailable("the watch stream ended"))?;
            Ok::<_, Status>((answers, first))
        };
        let (answers, first) = match opened.await {
            Ok(opened) => opened,
            Err(status) => {
                self.client.leave(at);
                return Err(from_status(status));
            }
        };
        if first.canceled {
            return self.canceled(first);
        }
        if self.position == 0 {
            self.position = first.header.map_or(0, |header| header.revision) + 1;
        }
        self.stream = Some(Stream { answers, outgoing, sent: self.told });
        Ok(())
    }

    /// The next answer; `None` if a question for progress was to be sent first.
    async fn receive(&mut self) -> Result<Option<WatchResponse>, Status> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let asked = self.asked.load(Ordering::Acquire);
        if asked != stream.sent {
            let question = PbRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) };
            // A full queue means that a question is under way already.
            let _ = stream.outgoing.try_send(question);
            stream.sent = asked;
        }
        let answer = async {
            rt::select! {
                answer = stream.answers.message() => match answer? {
                    Some(answer) => Ok(Some(answer)),
                    None => Err(Status::unavailable("the watch stream ended")),
                },
                () = self.wake.notified() => Ok(None),
            }
        };
        if asked == self.told {
            return answer.await;
        }
        match rt::time::timeout(ASK_AGAIN, answer).await {
            Ok(answer) => answer,
            Err(_) => {
                stream.sent = self.told;
                Ok(None)
            }
        }
    }

    fn take(&mut self, answer: WatchResponse) -> Result<()> {
        if answer.canceled {
            self.stream = None;
            return match self.canceled(answer) {
                Err(error) if !error.is_transient() => Err(error),
                _ => Ok(()),
            };
        }
        if answer.created {
            return Ok(());
        }
        if answer.events.is_empty() && !answer.fragment && self.fragments.is_empty() {
            let revision = answer.header.map_or(0, |header| header.revision);
            self.position = self.position.max(revision + 1);
            self.told = self.stream.as_ref().map_or(self.told, |stream| stream.sent);
            self.ready.push_back(WatchMessage::Progress { revision });
            return Ok(());
        }
        self.fragments.extend(answer.events.into_iter().map(convert::event));
        if !answer.fragment {
            self.group();
        }
        Ok(())
    }

    /// Turns the events of a whole answer into one message per revision.
    fn group(&mut self) {
        for event in std::mem::take(&mut self.fragments) {
            let revision = event.kv.mod_revision;
            match self.ready.back_mut() {
                Some(WatchMessage::Events { revision: last, events }) if *last == revision => events.push(event),
                _ if revision < self.position => {}
                _ => self.ready.push_back(WatchMessage::Events { revision, events: vec![event] }),
            }
        }
        if let Some(WatchMessage::Events { revision, .. }) = self.ready.back() {
            self.position = revision + 1;
        }
    }

    fn canceled(&self, answer: WatchResponse) -> Result<()> {
        if answer.compact_revision != 0 {
            return Err(Error::Compacted { requested: self.position, compacted: answer.compact_revision });
        }
        let message = answer.cancel_reason;
        if message.contains("permission denied") {
            return Err(Error::Denied { message });
        }
        Err(Error::Unavailable { message })
    }

    fn broken(&mut self, status: Status) -> Result<()> {
        self.stream = None;
        let error = from_status(status);
        if !error.is_transient() {
            return Err(error);
        }
        tracing::debug!(%error, rv = self.position, "etcd watch broke, resuming");
        Ok(())
    }
}
