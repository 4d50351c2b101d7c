//! Streams of exec, attach and port-forward over one connection: SPDY/3.1, WebSocket, and SPDY within WebSocket.
//!
//! All carriers look alike to what runs above them: a [`Source`] of chunks per incoming direction, a [`Sink`] per
//! outgoing one. Queues are bounded: a process that does not read its stdin holds up its peer, not our memory.

pub mod port_forward;
pub mod remote;
pub mod spdy;
pub mod tunnel;
pub mod websocket;

use bytes::Bytes;
use rt::sync::mpsc;

/// Chunks that may wait per stream or connection.
pub const DEPTH: usize = 64;

/// Incoming chunks; ends when the peer has closed its direction or the connection is gone.
pub type Source = mpsc::Receiver<Bytes>;

/// Something to be written to the connection.
#[derive(Debug)]
pub enum Out {
    /// Bytes of a stream.
    Data {
        /// Stream or channel.
        id: u32,
        /// Content.
        bytes: Bytes,
    },
    /// The end of our direction of a stream.
    Close {
        /// Stream or channel.
        id: u32,
    },
    /// The stream is given up.
    Reset {
        /// Stream.
        id: u32,
    },
    /// The answer to a stream the peer opened.
    Reply {
        /// Stream.
        id: u32,
    },
    /// A frame made elsewhere, to be written as it is.
    Raw(Bytes),
}

/// The outgoing direction of one stream.
#[derive(Debug, Clone)]
pub struct Sink {
    id: u32,
    out: mpsc::Sender<Out>,
}

impl Sink {
    /// A direction of the stream `id`.
    #[must_use]
    pub fn new(id: u32, out: mpsc::Sender<Out>) -> Self {
        Self { id, out }
    }

    /// Writes a chunk; `false` when the connection is gone.
    pub async fn send(&self, bytes: Bytes) -> bool {
        self.out.send(Out::Data { id: self.id, bytes }).await.is_ok()
    }

    /// Ends this direction.
    pub async fn close(&self) -> bool {
        self.out.send(Out::Close { id: self.id }).await.is_ok()
    }

    /// Gives the stream up in both directions.
    pub async fn reset(&self) -> bool {
        self.out.send(Out::Reset { id: self.id }).await.is_ok()
    }

    /// Waits until the connection is gone.
    pub async fn gone(&self) {
        self.out.closed().await;
    }
}
