//! Port forwarding: pairs of streams (data, error) per connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesUnordered, StreamExt};
use node_api::RuntimeService;
use rt::sync::mpsc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::spdy::{self, Stream};
use super::websocket::{self, Encoding};
use super::{Out, Sink, Source};

/// The SPDY protocol.
pub const SPDY_PROTOCOL: &str = "portforward.k8s.io";
/// SPDY within WebSocket.
pub const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// Channels, the newest first.
pub const WEBSOCKET_PROTOCOLS: &[&str] = &["v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

const CHUNK: usize = 32 << 10;
const MAX_PENDING: usize = 1024;

/// Where connections go.
#[derive(Clone)]
pub struct Target {
    /// The runtime.
    pub runtime: Arc<dyn RuntimeService>,
    /// The pod's sandbox.
    pub sandbox: String,
    /// For error texts.
    pub pod: String,
}

/// Serves a client over SPDY, directly or within a tunnel.
pub async fn over_spdy<S>(io: S, target: Target)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut incoming, session) = spdy::serve(io);
    let work = async {
        let mut pending: BTreeMap<String, Stream> = BTreeMap::new();
        let mut running = FuturesUnordered::new();
        loop {
            rt::select! {
                stream = incoming.recv() => {
                    let Some(stream) = stream else { break };
                    let id = request_id(&stream);
                    match pending.remove(&id) {
                        None if pending.len() >= MAX_PENDING => {
                            stream.sink.reset().await;
                        }
                        None => {
                            pending.insert(id, stream);
                        }
                        Some(other) => running.push(pair(other, stream, target.clone())),
                    }
                }
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        }
        while running.next().await.is_some() {}
        std::future::pending::<()>().await;
    };
    rt::select! {
        result = session => {
            if let Err(error) = result {
                tracing::debug!(error = %error, "SPDY session ended");
            }
        }
        () = work => {}
    }
}

/// Newer clients number their connections; older ones open the data stream right after the error stream.
fn request_id(stream: &Stream) -> String {
    if let Some(id) = stream.headers.get("requestid") {
        return id.clone();
    }
    let error = stream.headers.get("streamtype").is_some_and(|t| t == "error");
    if error { stream.id.to_string() } else { stream.id.saturating_sub(2).to_string() }
}

async fn pair(a: Stream, b: Stream, target: Target) {
    let a_is_error = a.headers.get("streamtype").is_some_and(|t| t == "error");
    let (error, data) = if a_is_error { (a, b) } else { (b, a) };
    let port = data.headers.get("port").and_then(|p| p.parse().ok()).unwrap_or(0);
    forward(&target, port, data.source, &data.sink, &error.sink).await;
    error.sink.close().await;
}

/// One connection, until both directions are closed or one fails.
async fn forward(target: &Target, port: u16, mut source: Source, sink: &Sink, error: &Sink) {
    let connection = match target.runtime.port_forward(&target.sandbox, port).await {
        Ok(connection) => connection,
        Err(reason) => {
            let text = format!("error forwarding port {port} to pod {}, uid : {}", target.pod, reason.chain());
            error.send(text.into()).await;
            sink.close().await;
            return;
        }
    };
    let (mut reader, mut writer) = tokio::io::split(connection);
    let inward = async {
        while let Some(bytes) = source.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = writer.shutdown().await;
    };
    let outward = async {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        let result = loop {
            match reader.read_buf(&mut buffer).await {
                Ok(0) => break Ok(()),
                Ok(_) => {
                    if !sink.send(buffer.split().freeze()).await {
                        break Ok(());
                    }
                    buffer.reserve(CHUNK);
                }
                Err(reason) => break Err(reason),
            }
        };
        sink.close().await;
        result
    };
    let mut inward = std::pin::pin!(inward);
    let result = rt::select! {
        result = outward => result,
        // The client has said all; the answer may still be on its way.
        () = sink.gone() => Ok(()),
        () = async { inward.as_mut().await; std::future::pending::<()>().await } => Ok(()),
    };
    if let Err(reason) = result {
        error.send(format!("error forwarding port {port} to pod {}, uid : {reason}", target.pod).into()).await;
    }
}

/// Serves a client over WebSocket channels: two per port, each beginning with the port's number.
pub async fn over_websocket<S>(io: S, protocol: &str, ports: &[u16], target: Target)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let encoding = Encoding { base64: protocol.contains("base64"), close: false };
    let channels: Vec<u8> = (0..ports.len()).filter_map(|i| u8::try_from(i * 2).ok()).collect();
    let (sources, out, session) = websocket::serve(io, encoding, &channels);
    let mut running = FuturesUnordered::new();
    for ((source, channel), port) in sources.into_iter().zip(&channels).zip(ports) {
        let (data, error) = (u32::from(*channel), u32::from(*channel) + 1);
        running.push(one(source, Sink::new(data, out.clone()), Sink::new(error, out.clone()), *port, target.clone()));
    }
    drop::<mpsc::Sender<Out>>(out);
    let work = async {
        while running.next().await.is_some() {}
        std::future::pending::<()>().await;
    };
    rt::select! {
        () = session => {}
        () = work => {}
    }
}

async fn one(source: Source, data: Sink, error: Sink, port: u16, target: Target) {
    let number = Bytes::copy_from_slice(&port.to_le_bytes());
    if data.send(number.clone()).await && error.send(number).await {
        forward(&target, port, source, &data, &error).await;
    }
}
