//! Port forwarding of newer clients: SPDY/3.1 inside a WebSocket. The kubelet is spoken to in plain SPDY; bytes are moved between
//! WebSocket messages and that connection.

use base64::Engine;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use meta::Status;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use wire::Body;

use crate::chain::Call;
use crate::kubelet::Backend;

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Whether the client offers the tunnelling protocol.
pub(super) fn wants_tunnel(headers: &HeaderMap) -> bool {
    headers
        .get_all("sec-websocket-protocol")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|v| v.split(',').any(|p| p.trim() == TUNNEL))
}

fn accept_key(key: &str) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(digest.finish())
}

/// Upgrades both sides and pumps.
pub(super) async fn serve(call: &mut Call, backend: &Backend, path: &str) -> Result<Response<Body>, Status> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header("X-Stream-Protocol-Version", "portforward.k8s.io")
        .header(header::CONTENT_LENGTH, "0")
        .body(wire::empty())
        .map_err(Status::internal)?;
    let mut answer = call.state.kubelets.send(backend, request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Status::internal(format!("the kubelet answered {} to a port forward", answer.status())));
    }
    let server = hyper::upgrade::on(&mut answer);
    let (response, client) = accept(call, TUNNEL)?;
    rt::spawn("portforward-tunnel", async move {
        if let (Ok(client), Ok(server)) = futures::join!(client, server) {
            let socket = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
            pump(socket, TokioIo::new(server)).await;
        }
    });
    Ok(response)
}

type Client = TokioIo<hyper::upgrade::Upgraded>;

/// The 101 answer to a WebSocket request, and the connection after it. An empty protocol is not named.
pub(super) fn accept(
    call: &mut Call,
    protocol: &'static str,
) -> Result<(Response<Body>, impl Future<Output = Result<Client, hyper::Error>> + Send + use<>), Status> {
    let key = call.headers().get("sec-websocket-key").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let mut ours = Request::new(wire::empty());
    *ours.extensions_mut() = std::mem::take(&mut call.head.extensions);
    let Some(client) = wire::upgrade(&mut ours) else {
        return Err(Status::bad_request("this connection cannot be upgraded"));
    };
    let mut response = Response::new(wire::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if !protocol.is_empty() {
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
    }
    if let Ok(value) = HeaderValue::from_str(&accept_key(&key)) {
        headers.insert("sec-websocket-accept", value);
    }
    Ok((response, client))
}

async fn pump<C, S>(socket: WebSocketStream<C>, stream: S)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut outgoing, mut incoming) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let inward = async {
        while let Some(Ok(message)) = incoming.next().await {
            match message {
                Message::Binary(bytes)
                    if (writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err()) =>
                {
                    break;
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(read) = reader.read(&mut buffer).await {
            if read == 0 || outgoing.send(Message::binary(buffer[..read].to_vec())).await.is_err() {
                break;
            }
        }
        // The client may be gone already.
        let _ = outgoing.close().await;
    };
    rt::select! {
        () = inward => {}
        () = outward => {}
    }
}
