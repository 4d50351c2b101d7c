//! Kubernetes' channels within a WebSocket: the first byte of a message says which stream the rest belongs to. In the
//! base64 protocols it is a digit, and the rest is encoded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use rt::sync::mpsc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::{DEPTH, Out, Source};

/// In v5, a message on this channel closes the one it names.
const CLOSE_CHANNEL: u8 = 255;
const MAX_MESSAGE: usize = 32 << 20;

/// How messages are formed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Text and base64.
    pub base64: bool,
    /// With the close channel (v5).
    pub close: bool,
}

/// Speaks channels on a connection: gives the sources of the channels `incoming`, the queue for what is to be sent, and
/// the session itself, which must be polled and ends with the connection or when the queue's senders are dropped.
pub fn serve<S>(
    io: S,
    encoding: Encoding,
    incoming: &[u8],
) -> (Vec<Source>, mpsc::Sender<Out>, impl Future<Output = ()> + Send + use<S>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut senders, mut sources) = (Vec::new(), Vec::new());
    for channel in incoming {
        let (send, source) = mpsc::channel(DEPTH);
        senders.push((*channel, Some(send)));
        sources.push(source);
    }
    let (out, queue) = mpsc::channel(DEPTH);
    (sources, out, session(io, encoding, senders, queue))
}

async fn session<S>(
    io: S,
    encoding: Encoding,
    senders: Vec<(u8, Option<mpsc::Sender<Bytes>>)>,
    mut queue: mpsc::Receiver<Out>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    let (mut sink, mut stream) = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await.split();
    let (control, mut controls) = mpsc::channel::<Message>(4);
    let read = async move {
        let mut senders = senders;
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => deliver(&mut senders, encoding, bytes).await,
                Message::Text(text) => deliver(&mut senders, encoding, Bytes::copy_from_slice(text.as_bytes())).await,
                // Pongs are queued by the library; flushing is ours.
                Message::Ping(_) => {
                    let _ = control.try_send(Message::Binary(Bytes::new()));
                }
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let write = async move {
        loop {
            let message = rt::select! {
                item = queue.recv() => match item {
                    Some(Out::Data { id, bytes }) => encode(encoding, id, &bytes),
                    // WebSocket protocols have no close from our side.
                    Some(_) => continue,
                    None => break,
                },
                Some(_) = controls.recv() => {
                    if sink.flush().await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // A close without a code reads as an error to clients.
        let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        let _ = sink.send(Message::Close(Some(normal))).await;
        // The peer answers the close, which ends the reading side; a silent peer must not hold us.
        rt::time::sleep(std::time::Duration::from_secs(2)).await;
    };
    rt::select! {
        () = read => {}
        () = write => {}
    }
}

fn encode(encoding: Encoding, id: u32, bytes: &Bytes) -> Message {
    if encoding.base64 {
        return Message::text(format!("{id}{}", STANDARD.encode(bytes)));
    }
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.put_u8(u8::try_from(id).unwrap_or(u8::MAX));
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

async fn deliver(senders: &mut [(u8, Option<mpsc::Sender<Bytes>>)], encoding: Encoding, message: Bytes) {
    let Some(first) = message.first().copied() else { return };
    let rest = message.slice(1..);
    let (channel, data) = if encoding.base64 {
        let Ok(data) = STANDARD.decode(&rest) else { return };
        (first.wrapping_sub(b'0'), Bytes::from(data))
    } else {
        (first, rest)
    };
    if encoding.close && channel == CLOSE_CHANNEL {
        if let Some((_, sender)) = data.first().and_then(|c| senders.iter_mut().find(|(id, _)| id == c)) {
            *sender = None;
        }
        return;
    }
    if let Some((_, Some(sender))) = senders.iter().find(|(id, _)| *id == channel)
        && !data.is_empty()
    {
        // Whoever does not read any more does not need it.
        let _ = sender.send(data).await;
    }
}

#[cfg(test)]
mod tests;
