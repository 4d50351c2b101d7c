//! The connection to one supervisor.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use node_api::{Error, Result};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::proto::{Answer, Failure, FailureKind, Message, Op, Request};

/// No request may take longer; starting a container on a slow disk is the longest.
const LIMIT: Duration = Duration::from_secs(120);

type Waiting = oneshot::Sender<(Result<Answer, Failure>, Vec<OwnedFd>)>;

/// The daemon's end.
pub(super) struct Link {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    waiting: Mutex<Option<HashMap<u64, Waiting>>>,
    execs: Mutex<HashMap<String, oneshot::Sender<i32>>>,
}

impl Link {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Arc<Self>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // Deprecated because a foreign AsRawFd could lie; an OwnedFd that this owns until it is dropped does not.
        #[allow(deprecated)]
        let socket = AsyncFd::new(socket)?;
        let waiting = Mutex::new(Some(HashMap::new()));
        Ok(Arc::new(Self { socket, next: AtomicU64::new(1), waiting, execs: Mutex::default() }))
    }

    /// The next message that is no answer; `None` when the supervisor is gone. One task calls this.
    pub(super) async fn receive(&self) -> Option<Message> {
        loop {
            let received = self.socket.async_io(Interest::READABLE, |fd| sys::fdpass::recv(fd)).await;
            let Ok(Some((bytes, fds))) = received else {
                self.waiting.lock().take();
                self.execs.lock().clear();
                return None;
            };
            match serde_json::from_slice(&bytes) {
                Ok(Message::Reply(reply)) => {
                    let waiting = self.waiting.lock().as_mut().and_then(|w| w.remove(&reply.seq));
                    if let Some(waiting) = waiting {
                        // Nobody waits any more after a time-out.
                        let _ = waiting.send((reply.result, fds));
                    }
                }
                Ok(Message::ExecExit { exec, code }) => {
                    let waiting = self.execs.lock().remove(&exec);
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(code);
                    }
                }
                Ok(message) => return Some(message),
                Err(error) => tracing::warn!(%error, "a supervisor said something that is not understood"),
            }
        }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn call(&self, op: Op, fds: &[BorrowedFd<'_>]) -> Result<(Answer, Vec<OwnedFd>)> {
        let gone = || Error::Unavailable { context: "the pod's supervisor is gone".to_owned(), source: None };
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match self.waiting.lock().as_mut() {
            Some(waiting) => drop(waiting.insert(seq, sender)),
            None => return Err(gone()),
        }
        let bytes = serde_json::to_vec(&Request { seq, op }).map_err(|e| Error::internal("encode a request", e))?;
        let sent = self.socket.async_io(Interest::WRITABLE, |fd| sys::fdpass::send(fd, &bytes, fds)).await;
        if let Err(error) = sent {
            if let Some(waiting) = self.waiting.lock().as_mut() {
                waiting.remove(&seq);
            }
            return match error.raw_os_error() {
                Some(libc::EMSGSIZE) => {
                    Err(Error::InvalidArgument("the command and its environment are too long".to_owned()))
                }
                _ => Err(Error::Unavailable {
                    context: "talk to the pod's supervisor".to_owned(),
                    source: Some(error.into()),
                }),
            };
        }
        match tokio::time::timeout(LIMIT, receiver).await {
            Ok(Ok((Ok(answer), fds))) => Ok((answer, fds)),
            Ok(Ok((Err(failure), _))) => Err(to_error(failure)),
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                if let Some(waiting) = self.waiting.lock().as_mut() {
                    waiting.remove(&seq);
                }
                Err(Error::DeadlineExceeded("the pod's supervisor did not answer".to_owned()))
            }
        }
    }

    /// A future exit code of a further process; call before asking for it.
    pub(super) fn expect_exec(&self, exec: &str) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        self.execs.lock().insert(exec.to_owned(), sender);
        receiver
    }

    pub(super) fn forget_exec(&self, exec: &str) {
        self.execs.lock().remove(exec);
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

fn to_error(failure: Failure) -> Error {
    match failure.kind {
        FailureKind::NotFound | FailureKind::State => Error::FailedPrecondition(failure.message),
        FailureKind::Other => Error::Container { context: failure.message, source: None },
    }
}
