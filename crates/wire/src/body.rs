//! The one body type of requests and answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::mpsc;

/// Why a body broke.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's or answer's body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body without bytes.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of known bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Feeds a [`channel`] body.
pub type Sender = mpsc::Sender<Bytes>;

struct Channel(mpsc::Receiver<Bytes>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|item| item.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A body fed from another task; it ends when the sender is dropped, and the sender learns when the reader went away.
/// At most `depth` chunks wait.
pub fn channel(depth: usize) -> (Sender, Body) {
    let (sender, receiver) = mpsc::channel(depth);
    (sender, Channel(receiver).boxed_unsync())
}

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Longer than allowed.
    #[error("limit is {limit}")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The connection broke.
    #[error("read request body")]
    Broken(#[source] BoxError),
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// It is longer, or the connection breaks.
pub async fn read_all(mut body: Body, limit: usize) -> Result<Bytes, ReadError> {
    let mut first: Option<Bytes> = None;
    let mut rest: Option<BytesMut> = None;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        length += data.len();
        if length > limit {
            return Err(ReadError::TooLarge { limit });
        }
        match (&mut first, &mut rest) {
            (None, _) => first = Some(data),
            (Some(_), Some(buffer)) => buffer.extend_from_slice(&data),
            (Some(head), None) => {
                let mut buffer = BytesMut::with_capacity(head.len() + data.len());
                buffer.extend_from_slice(head);
                buffer.extend_from_slice(&data);
                rest = Some(buffer);
            }
        }
    }
    Ok(rest.map(BytesMut::freeze).or(first).unwrap_or_default())
}
