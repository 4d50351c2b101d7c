//! Streams to processes and ports.

use std::pin::Pin;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Bytes to a process.
pub type StdinWriter = Pin<Box<dyn AsyncWrite + Send + Unpin>>;
/// Bytes from a process.
pub type OutputReader = Pin<Box<dyn AsyncRead + Send + Unpin>>;

/// Both directions at once (port forwarding).
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// What to run, and which streams are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container.
    pub container_id: String,
    /// Program and arguments; nothing is expanded.
    pub cmd: Vec<String>,
    /// On a terminal; stderr is then part of stdout.
    pub tty: bool,
    /// Whether stdin is wanted.
    pub stdin: bool,
    /// Whether stdout is wanted.
    pub stdout: bool,
    /// Whether stderr is wanted.
    pub stderr: bool,
}

/// Which streams of a running container to attach to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container.
    pub container_id: String,
    /// Whether stdin is wanted.
    pub stdin: bool,
    /// Whether stdout is wanted.
    pub stdout: bool,
    /// Whether stderr is wanted.
    pub stderr: bool,
}

/// A running exec or attach. Dropping it closes the streams; an exec'd process is not killed, as upstream.
pub struct ProcessStreams {
    /// Where asked for; shut it down to give the process an end of file.
    pub stdin: Option<StdinWriter>,
    /// Where asked for; ends when the process closed it.
    pub stdout: Option<OutputReader>,
    /// Where asked for and not on a terminal.
    pub stderr: Option<OutputReader>,
    /// Terminal sizes; ignored without a terminal.
    pub resize: mpsc::Sender<TerminalSize>,
    /// The exit code of an exec'd process; for attach, of the container (or 0 when only the streams ended).
    pub exit: BoxFuture<'static, crate::Result<i32>>,
    /// Whether the process has a terminal (attach learns it here).
    pub tty: bool,
}

impl std::fmt::Debug for ProcessStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessStreams").field("tty", &self.tty).finish_non_exhaustive()
    }
}

/// What [`crate::RuntimeService::exec_sync`] gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSyncResult {
    /// Standard output, cut at 16 MiB as upstream runtimes do.
    pub stdout: Vec<u8>,
    /// Standard error, cut likewise.
    pub stderr: Vec<u8>,
    /// Exit code.
    pub exit_code: i32,
}

/// What happened to a container or sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerEventType {
    /// Made.
    Created,
    /// Started.
    Started,
    /// Ended.
    Stopped,
    /// Removed.
    Deleted,
    /// Events were lost; list everything anew.
    Lagged,
}

/// One event. Sandboxes have events too (`container_id` is then the sandbox's id).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEvent {
    /// Container or sandbox.
    pub container_id: String,
    /// The sandbox.
    pub pod_sandbox_id: String,
    /// The pod's UID.
    pub pod_uid: String,
    /// What.
    pub event_type: ContainerEventType,
    /// When, ns since 1970.
    pub created_at: i64,
}

/// Events from now on.
pub type EventStream = BoxStream<'static, ContainerEvent>;
