//! exec, attach, run and port-forward.

use std::time::Duration;

use base64::Engine;
use http::{HeaderMap, Request, Response, StatusCode, header};
use node_api::{AttachRequest, ExecRequest};
use wire::Body;

use super::{Query, Server, text};
use crate::streaming::{port_forward, remote, tunnel};

/// How a process is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A new process.
    Exec,
    /// The container's own.
    Attach,
}

enum Upgrade {
    Spdy(String),
    WebSocket(String, String),
}

fn bad(message: impl Into<String>) -> Response<Body> {
    text(StatusCode::BAD_REQUEST, message)
}

/// All values of a header that may be repeated or hold a list.
fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let all = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
}

/// Which upgrade the client asks for, and the best protocol both sides know.
fn negotiate(headers: &HeaderMap, spdy: &[&str], websocket: &[&str]) -> Result<Upgrade, Response<Body>> {
    let wanted = values(headers, "upgrade");
    if wanted.iter().any(|u| u.eq_ignore_ascii_case("websocket")) {
        let key = headers
            .get("sec-websocket-key")
            .and_then(|k| k.to_str().ok())
            .ok_or_else(|| bad("missing Sec-WebSocket-Key"))?;
        let offered = values(headers, "sec-websocket-protocol");
        let chosen = offered.iter().find(|p| websocket.contains(&p.as_str()));
        return match chosen {
            Some(chosen) => Ok(Upgrade::WebSocket(chosen.clone(), accept(key))),
            // Without a protocol the first, unnamed one is meant.
            None if offered.is_empty() && websocket.contains(&"channel.k8s.io") => {
                Ok(Upgrade::WebSocket(String::new(), accept(key)))
            }
            None => Err(text(StatusCode::FORBIDDEN, format!("unable to upgrade: none of {offered:?} is supported"))),
        };
    }
    if wanted.iter().any(|u| u.eq_ignore_ascii_case("SPDY/3.1")) {
        let offered = values(headers, "x-stream-protocol-version");
        if let Some(chosen) = offered.iter().find(|p| spdy.contains(&p.as_str())) {
            return Ok(Upgrade::Spdy(chosen.clone()));
        }
        if offered.is_empty() {
            return Ok(Upgrade::Spdy(String::new()));
        }
        let text_of = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {spdy:?}"
        );
        return Err(text(StatusCode::FORBIDDEN, text_of));
    }
    Err(bad(format!("unable to upgrade: missing upgrade headers in request: {wanted:?}")))
}

fn accept(key: &str) -> String {
    tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
}

fn switching(upgrade: &Upgrade) -> Response<Body> {
    let mut builder = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(header::CONNECTION, "Upgrade");
    match upgrade {
        Upgrade::Spdy(protocol) => {
            builder = builder.header(header::UPGRADE, "SPDY/3.1");
            if !protocol.is_empty() {
                builder = builder.header("X-Stream-Protocol-Version", protocol);
            }
        }
        Upgrade::WebSocket(protocol, accept) => {
            builder = builder.header(header::UPGRADE, "websocket").header("Sec-WebSocket-Accept", accept);
            if !protocol.is_empty() {
                builder = builder.header("Sec-WebSocket-Protocol", protocol);
            }
        }
    }
    builder.body(wire::empty()).unwrap_or_else(|e| text(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

impl Server {
    #[allow(clippy::too_many_arguments, reason = "the parts of one path")]
    pub(super) async fn process(
        &self,
        mut request: Request<Body>,
        verb: Verb,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        container: &str,
        query: &Query,
    ) -> Response<Body> {
        let wanted = remote::Wanted {
            stdin: query.flag(&["input", "stdin"]),
            stdout: query.flag(&["output", "stdout"]),
            stderr: query.flag(&["error", "stderr"]),
            tty: query.flag(&["tty"]),
        };
        if !wanted.stdin && !wanted.stdout && !wanted.stderr {
            return bad("you must specify at least 1 of stdin, stdout, stderr");
        }
        let id = match self.container(namespace, pod, uid, container) {
            Ok(id) => id,
            Err(refusal) => return refusal,
        };
        let upgrade = match negotiate(request.headers(), remote::SPDY_PROTOCOLS, remote::WEBSOCKET_PROTOCOLS) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return refusal,
        };
        let Some(pending) = wire::upgrade(&mut request) else {
            return bad("unable to upgrade: this connection cannot be");
        };
        let response = switching(&upgrade);
        let (runtime, cmd) = (self.shared.runtime.clone(), query.all("command"));
        rt::spawn("exec", async move {
            let process = async move {
                let streams = match verb {
                    Verb::Exec => {
                        let request = ExecRequest {
                            container_id: id,
                            cmd,
                            tty: wanted.tty,
                            stdin: wanted.stdin,
                            stdout: wanted.stdout,
                            stderr: wanted.stderr && !wanted.tty,
                        };
                        runtime.exec(&request).await
                    }
                    Verb::Attach => {
                        let request = AttachRequest {
                            container_id: id,
                            stdin: wanted.stdin,
                            stdout: wanted.stdout,
                            stderr: wanted.stderr && !wanted.tty,
                        };
                        runtime.attach(&request).await
                    }
                };
                streams.map_err(|e| e.chain())
            };
            match (pending.await, upgrade) {
                (Ok(io), Upgrade::Spdy(protocol)) => remote::over_spdy(io, &protocol, wanted, process).await,
                (Ok(io), Upgrade::WebSocket(protocol, _)) => {
                    remote::over_websocket(io, &protocol, wanted, process).await
                }
                (Err(error), _) => tracing::debug!(error = %error, "upgrade failed"),
            }
        });
        response
    }

    /// Runs a command without streams and answers with its output.
    pub(super) async fn run_command(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        container: &str,
        query: &Query,
    ) -> Response<Body> {
        let id = match self.container(namespace, pod, uid, container) {
            Ok(id) => id,
            Err(refusal) => return refusal,
        };
        let cmd: Vec<String> = query.get("cmd").unwrap_or_default().split(' ').map(str::to_owned).collect();
        match self.shared.runtime.exec_sync(&id, &cmd, Some(Duration::from_secs(600))).await {
            Ok(done) => {
                let mut out = done.stdout;
                out.extend_from_slice(&done.stderr);
                let mut response = Response::new(wire::full(out));
                if done.exit_code != 0 {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                response
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.chain()),
        }
    }

    pub(super) async fn port_forward(
        &self,
        mut request: Request<Body>,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        query: &Query,
    ) -> Response<Body> {
        let Some(handle) = self.shared.find(namespace, pod, uid) else {
            return text(StatusCode::NOT_FOUND, "pod does not exist");
        };
        let sandbox = handle.view.lock().observed.ready_sandbox().map(|s| s.id.clone());
        let Some(sandbox) = sandbox else { return text(StatusCode::NOT_FOUND, "pod not found (\"no sandbox\")") };
        let websocket = [port_forward::WEBSOCKET_PROTOCOLS, &[port_forward::TUNNEL_PROTOCOL]].concat();
        let upgrade = match negotiate(request.headers(), &[port_forward::SPDY_PROTOCOL], &websocket) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return refusal,
        };
        let lists = query.all("port").into_iter().chain(query.all("ports"));
        let ports: Vec<u16> =
            lists.flat_map(|p| p.split(',').filter_map(|p| p.parse().ok()).collect::<Vec<_>>()).collect();
        let channels = matches!(&upgrade, Upgrade::WebSocket(p, _) if p != port_forward::TUNNEL_PROTOCOL);
        if channels && ports.is_empty() {
            return bad("query parameter \"port\" is required");
        }
        let Some(pending) = wire::upgrade(&mut request) else {
            return bad("unable to upgrade: this connection cannot be");
        };
        let response = switching(&upgrade);
        let target = port_forward::Target { runtime: self.shared.runtime.clone(), sandbox, pod: handle.uid.clone() };
        rt::spawn("port forward", async move {
            match (pending.await, upgrade) {
                (Ok(io), Upgrade::Spdy(_)) => port_forward::over_spdy(io, target).await,
                (Ok(io), Upgrade::WebSocket(protocol, _)) if protocol == port_forward::TUNNEL_PROTOCOL => {
                    port_forward::over_spdy(tunnel::Tunnel::server(io).await, target).await;
                }
                (Ok(io), Upgrade::WebSocket(protocol, _)) => {
                    port_forward::over_websocket(io, &protocol, &ports, target).await
                }
                (Err(error), _) => tracing::debug!(error = %error, "upgrade failed"),
            }
        });
        response
    }
}

/// Bearer tokens may come as a WebSocket protocol, for browsers.
#[must_use]
pub fn bearer_from_protocol(headers: &HeaderMap) -> Option<String> {
    let prefix = "base64url.bearer.authorization.k8s.io.";
    let offered = values(headers, "sec-websocket-protocol");
    let encoded = offered.iter().find_map(|p| p.strip_prefix(prefix))?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}
