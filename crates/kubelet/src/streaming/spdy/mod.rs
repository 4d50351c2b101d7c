//! SPDY/3.1, the server's side: as much as clients of exec, attach and port-forward use.
//!
//! Every stream a client opens is answered with an empty `SYN_REPLY` and handed over with its headers. Flow control is
//! left out, as it is by the library that all Kubernetes clients use: windows are neither sent nor kept.

mod frame;
mod headers;

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use rt::sync::mpsc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{DEPTH, Out, Sink, Source};
use frame::Frame;
pub use headers::{Compressor, Decompressor, Headers};

const MAX_STREAMS: usize = 4096;
/// How long the client may take to close after we have.
const LINGER: std::time::Duration = std::time::Duration::from_secs(30);

/// A stream that the client opened.
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// Its headers, names in lower case.
    pub headers: Headers,
    /// From the client.
    pub source: Source,
    /// To the client.
    pub sink: Sink,
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("read or write the connection")]
    Io(#[from] std::io::Error),
    /// The peer does not speak SPDY/3.1.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
}

/// Speaks SPDY on a connection. Streams arrive at the receiver; the future is the session and must be polled for as long
/// as streams are in use. It ends when the peer has gone, or when the receiver and all sinks are dropped.
pub fn serve<S>(io: S) -> (mpsc::Receiver<Stream>, impl Future<Output = Result<(), Error>> + Send)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (streams, incoming) = mpsc::channel(DEPTH);
    (incoming, session(io, streams))
}

async fn session<S>(io: S, streams: mpsc::Sender<Stream>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, mut writer) = tokio::io::split(io);
    let (out, queue) = mpsc::channel(DEPTH);
    let weak = out.downgrade();
    // Only streams keep the writer going: without any, and with nobody waiting for new ones, the session is over.
    let keep = streams.clone();
    let hold = async move {
        keep.closed().await;
        drop(out);
        std::future::pending::<()>().await;
    };
    let mut read = std::pin::pin!(read(reader, streams, weak));
    rt::select! {
        result = read.as_mut() => result,
        result = write(&mut writer, queue) => {
            result?;
            let _ = rt::time::timeout(LINGER, read).await;
            Ok(())
        }
        () = hold => Ok(()),
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), mut queue: mpsc::Receiver<Out>) -> Result<(), Error> {
    let mut compressor = Compressor::new();
    while let Some(item) = queue.recv().await {
        match item {
            Out::Data { id, bytes } => {
                writer.write_all(&frame::data_header(id, bytes.len(), false)).await?;
                writer.write_all(&bytes).await?;
            }
            Out::Close { id } => writer.write_all(&frame::data_header(id, 0, true)).await?,
            Out::Reset { id } => writer.write_all(&frame::reset(id)).await?,
            // Made here and not by the reader: headers are compressed in the order they are sent.
            Out::Reply { id } => {
                let block = compressor.compress(&BTreeMap::new());
                writer.write_all(&frame::reply(id, &block)).await?;
            }
            Out::Raw(bytes) => writer.write_all(&bytes).await?,
        }
        writer.flush().await?;
    }
    // Everything was said. The connection itself is left for the client to close: upstream's clients throw away frames
    // they have not worked through yet when they see its end.
    writer.write_all(&frame::go_away()).await?;
    writer.flush().await?;
    Ok(())
}

async fn read(
    mut reader: impl AsyncRead + Unpin,
    streams: mpsc::Sender<Stream>,
    out: mpsc::WeakSender<Out>,
) -> Result<(), Error> {
    let mut open: BTreeMap<u32, mpsc::Sender<Bytes>> = BTreeMap::new();
    let mut decompressor = Decompressor::new();
    let mut buffer = BytesMut::with_capacity(8 << 10);
    loop {
        let frame = loop {
            if let Some(frame) = frame::parse(&mut buffer)? {
                break frame;
            }
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        match frame {
            Frame::SynStream { id, fin, block } => {
                let headers = decompressor.decompress(&block)?;
                let Some(out) = out.upgrade() else { return Ok(()) };
                open.retain(|_, sender| !sender.is_closed());
                if open.len() >= MAX_STREAMS || open.contains_key(&id) {
                    return Err(Error::Malformed("too many streams, or one opened twice"));
                }
                let (send, source) = mpsc::channel(DEPTH);
                if !fin {
                    open.insert(id, send);
                }
                let reply = Out::Reply { id };
                let stream = Stream { id, headers, source, sink: Sink::new(id, out.clone()) };
                // Handed over before it is answered: the client may send as soon as it has the answer.
                if streams.send(stream).await.is_err() || out.send(reply).await.is_err() {
                    continue;
                }
            }
            Frame::Headers { block } => {
                // Their content does not matter, but the compression's state does.
                decompressor.decompress(&block)?;
            }
            Frame::Data { id, fin, bytes } => {
                if let Some(sender) = open.get(&id)
                    && !bytes.is_empty()
                    && sender.send(bytes).await.is_err()
                {
                    open.remove(&id);
                }
                if fin {
                    open.remove(&id);
                }
            }
            Frame::Reset { id } => {
                open.remove(&id);
            }
            Frame::Ping { bytes } => {
                if let Some(out) = out.upgrade() {
                    // A peer that is gone needs no answer.
                    let _ = out.send(Out::Raw(bytes)).await;
                }
            }
            Frame::GoAway => {}
            Frame::Other => {}
        }
    }
}

#[cfg(test)]
mod tests;
