//! An answer's body as WebSocket messages, for clients that cannot read a plain stream (upstream's `wsstream.Reader`).

use base64::Engine;
use futures::SinkExt;
use http::Response;
use http_body_util::BodyExt;
use meta::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use wire::Body;

use super::tunnel::accept;
use crate::chain::Call;

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// The first of the offered protocols that is known; `None` when only others are offered.
fn negotiate(call: &Call) -> Option<&'static str> {
    let offered = call.headers().get_all("sec-websocket-protocol").iter().filter_map(|v| v.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|v| v.split(',')).map(str::trim).filter(|p| !p.is_empty()).collect();
    if offered.is_empty() {
        return Some("");
    }
    offered.iter().find_map(|p| [BINARY, BASE64].into_iter().find(|known| known == p))
}

/// Upgrades the connection and sends the body over it, a message for each piece.
///
/// # Errors
/// The connection cannot be upgraded, or no offered protocol is known.
pub(super) fn stream(call: &mut Call, body: Body) -> Result<Response<Body>, Status> {
    let Some(protocol) = negotiate(call) else {
        return Err(Status::bad_request(format!(
            "WebSocket protocols other than {BINARY} and {BASE64} are not known here"
        )));
    };
    let (response, client) = accept(call, protocol)?;
    rt::spawn("websocket-body", async move {
        if let Ok(client) = client.await {
            let socket = WebSocketStream::from_raw_socket(client, Role::Server, None).await;
            send(socket, body, protocol == BASE64).await;
        }
    });
    Ok(response)
}

async fn send<S>(mut socket: WebSocketStream<S>, mut body: Body, base64: bool)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        let message = if base64 {
            Message::Text(base64::engine::general_purpose::STANDARD.encode(&data).into())
        } else {
            Message::Binary(data)
        };
        // The client went away: the body is dropped, which ends what fed it.
        if socket.send(message).await.is_err() {
            return;
        }
    }
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = socket.send(Message::Close(Some(normal))).await;
}
