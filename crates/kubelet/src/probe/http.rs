//! One HTTP GET, for probes and hooks: no pool, no verification of certificates.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Outcome;
use crate::k8s::core::HTTPGetAction;

const MAX_BODY: usize = 10 << 10;
const MAX_REDIRECTS: usize = 10;

/// What to get.
#[derive(Debug, Clone)]
pub struct Request {
    /// `http` or `https`.
    pub scheme: String,
    /// Where to connect.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers, `Host` among them where given.
    pub headers: Vec<(String, String)>,
    /// Without a user agent of their own, requests get this one.
    pub user_agent: &'static str,
}

impl Request {
    /// A probe's request.
    #[must_use]
    pub fn probe(action: &HTTPGetAction, port: u16, ip: &str) -> Self {
        Self::new(action, port, ip, "kube-probe/1.36")
    }

    /// From an action of the API.
    #[must_use]
    pub fn new(action: &HTTPGetAction, port: u16, ip: &str, user_agent: &'static str) -> Self {
        let path = action.path.as_deref().unwrap_or_default();
        Self {
            scheme: action.scheme.as_deref().unwrap_or("HTTP").to_lowercase(),
            host: action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(ip).to_owned(),
            port,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: action.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
            user_agent,
        }
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The URL, for messages.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

/// Gets it: a status of 200 to 399 is success, redirects to the same host are followed.
pub async fn get(request: &Request, timeout: Duration) -> Outcome {
    let url = request.url();
    match rt::time::timeout(timeout, follow(request.clone())).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

async fn follow(mut request: Request) -> Outcome {
    let first = request.host.clone();
    for _ in 0..=MAX_REDIRECTS {
        let (status, location, body) = match once(&request).await {
            Ok(answer) => answer,
            Err(text) => return Outcome::Failure(format!("Get {:?}: {text}", request.url())),
        };
        let next = location.filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308));
        match next.and_then(|to| redirect(&request, &to)) {
            Some(to) if to.host == first => request = to,
            Some(_) => return Outcome::Warning(format!("Probe terminated redirects, Response body: {body}")),
            None if (200..400).contains(&status) => return Outcome::Success,
            None => return Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
    Outcome::Failure(format!("Get {:?}: stopped after {MAX_REDIRECTS} redirects", request.url()))
}

fn redirect(from: &Request, to: &str) -> Option<Request> {
    let uri: http::Uri = to.parse().ok()?;
    let mut next = from.clone();
    if let Some(scheme) = uri.scheme_str() {
        next.scheme = scheme.to_owned();
        next.host = uri.host()?.trim_matches(['[', ']']).to_owned();
        next.port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        next.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
    }
    next.path = uri.path_and_query().map_or("/".to_owned(), ToString::to_string);
    Some(next)
}

/// Connects; the text of an error is upstream's.
pub async fn dial(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match rt::time::timeout(timeout, wire::dial(host, port)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {shown}: {}", reason(&error))),
        Err(_) => Err(format!("dial tcp {shown}: i/o timeout")),
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        std::io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => error.to_string(),
    }
}

/// One exchange: status, `Location`, the beginning of the body.
pub async fn once(request: &Request) -> Result<(u16, Option<String>, String), String> {
    let stream = dial(&request.host, request.port, Duration::from_secs(60)).await?;
    // Whoever closes first keeps the port in TIME_WAIT; probes must not use up the node's ports.
    #[allow(deprecated, reason = "a zero linger does not block")]
    let _ = stream.set_linger(Some(Duration::ZERO));
    if request.scheme == "https" {
        let name = ServerName::try_from(request.host.clone()).map_err(|e| e.to_string())?;
        let tls = tokio_rustls::TlsConnector::from(insecure());
        let stream = tls.connect(name, stream).await.map_err(|e| e.to_string())?;
        return exchange(request, stream).await;
    }
    exchange(request, stream).await
}

async fn exchange<S>(request: &Request, stream: S) -> Result<(u16, Option<String>, String), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let mut message = http::Request::get(&request.path);
    let has = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !has("host") {
        message = message.header("Host", request.authority());
    }
    if !has("user-agent") {
        message = message.header("User-Agent", request.user_agent);
    }
    if !has("accept") {
        message = message.header("Accept", "*/*");
    }
    for (name, value) in &request.headers {
        // An empty value means that the header is not sent.
        if !value.is_empty() {
            message = message.header(name, value);
        }
    }
    let message =
        message.header("Connection", "close").body(Empty::<bytes::Bytes>::new()).map_err(|e| e.to_string())?;
    let talk = async {
        let answer = sender.send_request(message).await.map_err(|e| e.to_string())?;
        let status = answer.status().as_u16();
        let location = answer.headers().get("location").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let mut body = answer.into_body();
        let mut text = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                text.extend_from_slice(&data[..data.len().min(MAX_BODY - text.len())]);
            }
            if text.len() >= MAX_BODY {
                break;
            }
        }
        Ok((status, location, String::from_utf8_lossy(&text).into_owned()))
    };
    rt::select! {
        result = talk => result,
        // The exchange learns from its own side how the connection ended; here it is only driven.
        never = async { let _ = connection.await; std::future::pending().await } => never,
    }
}

fn insecure() -> Arc<rustls::ClientConfig> {
    static CONFIG: std::sync::OnceLock<Arc<rustls::ClientConfig>> = std::sync::OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let provider = pki::tls::provider();
            // Probes check health, not identity: upstream, too, accepts any certificate.
            let verifier = pki::tls::any_server();
            let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            // The default versions are always in the provider.
            let builder = builder.unwrap_or_else(|_| rustls::ClientConfig::builder());
            Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
        })
        .clone()
}
