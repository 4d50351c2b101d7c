//! Webhooks over HTTPS, with connections kept for the next call.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_api::Edit;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use meta::{GroupVersionResource, Object};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::call::{CallError, Caller, Target};
use super::credentials::Credentials;
use crate::plugin::core;
use crate::pod::{items, text};

/// Idle connections kept per webhook.
const IDLE: usize = 8;
/// Webhooks whose connections are kept.
const TARGETS: usize = 256;
/// The largest answer that is read.
const MAX_ANSWER: usize = 10 * 1024 * 1024;

type Connection = SendRequest<Full<Bytes>>;

/// Calls webhooks over HTTPS; Services are reached at one of their ready endpoints.
pub struct HttpCaller {
    api: Arc<dyn Edit>,
    credentials: Credentials,
    idle: Mutex<BTreeMap<Target, Vec<Connection>>>,
}

impl HttpCaller {
    /// Looks Services up through `api`.
    pub fn new(api: Arc<dyn Edit>) -> Self {
        Self::with_credentials(api, Credentials::default())
    }

    /// Shows webhooks what they are to see, too.
    pub(super) fn with_credentials(api: Arc<dyn Edit>, credentials: Credentials) -> Self {
        Self { api, credentials, idle: Mutex::default() }
    }

    fn take(&self, target: &Target) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let list = idle.get_mut(target)?;
        while let Some(connection) = list.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, target: &Target, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() >= TARGETS && !idle.contains_key(target) {
            idle.clear();
        }
        let list = idle.entry(target.clone()).or_default();
        list.retain(|c| !c.is_closed());
        if list.len() < IDLE {
            list.push(connection);
        }
    }

    async fn connect(&self, target: &Target) -> Result<Connection, String> {
        let (host, port) = self.address(target).await?;
        let dial = |e: std::io::Error| format!("dial tcp {host}:{port}: {e}");
        let stream = wire::dial(&host, port).await.map_err(dial)?;
        stream.set_nodelay(true).map_err(dial)?;
        let authorities = pki::pem::certificates(&target.ca);
        let credential = self.credentials.of_target(&target.host, target.port);
        let pair = credential.and_then(|c| c.pair.as_ref());
        let mut config = pki::tls::client_config(&authorities, pair).map_err(|e| e.to_string())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let tls = tls.map_err(|e| format!("tls: failed to verify certificate: {e}"))?;
        let (sender, connection) = handshake(TokioIo::new(tls)).await.map_err(|e| e.to_string())?;
        rt::spawn("webhook-connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "webhook connection ended");
            }
        });
        Ok(sender)
    }

    /// Host and port to connect to.
    async fn address(&self, target: &Target) -> Result<(String, u16), String> {
        let Some((namespace, name)) = &target.service else { return Ok((target.host.clone(), target.port)) };
        let service = self.api.get(&core("services"), namespace, name).await.map_err(|s| s.message)?;
        let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
        if service.get_str(&["spec", "type"]) == "ExternalName" {
            return Ok((service.get_str(&["spec", "externalName"]).to_owned(), target.port));
        }
        let slices = GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices");
        let slices = self.api.list(&slices, namespace).await.map_err(|s| s.message)?;
        let own = slices.iter().filter(|s| s.label("kubernetes.io/service-name") == Some(name));
        endpoint(&service, own.map(AsRef::as_ref), target.port)
            .ok_or_else(|| format!("no endpoints available for service {name:?}"))
    }

    async fn exchange(&self, target: &Target, body: &Bytes, seconds: u64) -> Result<Value, String> {
        let mut kept = self.take(target);
        loop {
            let reused = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.connect(target).await?,
            };
            let join = if target.path.contains('?') { '&' } else { '?' };
            let mut request = http::Request::post(format!("{}{join}timeout={seconds}s", target.path))
                .header("host", format!("{}:{}", target.host, target.port))
                .header("content-type", "application/json")
                .header("accept", "application/json, */*")
                .header("user-agent", "kube-apiserver-admission");
            let credential = self.credentials.of_target(&target.host, target.port);
            if let Some(text) = credential.and_then(|c| c.authorization.as_deref()) {
                request = request.header("authorization", text);
            }
            let request = request.body(Full::new(body.clone())).map_err(|e| e.to_string())?;
            let response = match connection.send_request(request).await {
                Ok(response) => response,
                // The other side closed a connection that was kept: once more on a fresh one.
                Err(error) if reused && (error.is_canceled() || error.is_closed() || error.is_incomplete_message()) => {
                    continue;
                }
                Err(error) => return Err(error.to_string()),
            };
            let status = response.status();
            let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| e.to_string())?;
            self.keep(target, connection);
            return read(status, &answer.to_bytes());
        }
    }
}

fn read(status: http::StatusCode, answer: &Bytes) -> Result<Value, String> {
    if status == http::StatusCode::NOT_FOUND {
        return Err("the server could not find the requested resource".into());
    }
    if !status.is_success() {
        let text = String::from_utf8_lossy(answer);
        return Err(format!("an error on the server ({:?}) has prevented the request from succeeding", text.trim()));
    }
    serde_json::from_slice(answer).map_err(|e| format!("couldn't get version/kind; json parse error: {e}"))
}

/// A ready endpoint of a Service's port.
fn endpoint<'a>(service: &Object, slices: impl Iterator<Item = &'a Object>, port: u16) -> Option<(String, u16)> {
    let spec = service.body.get("spec")?;
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
    let wanted = items(spec, "ports").find(|p| p.get("port").and_then(number) == Some(port))?;
    let name = text(wanted, &["name"]);
    let mut found = Vec::new();
    for slice in slices {
        let body = Value::Object(slice.body.clone());
        let Some(port) =
            items(&body, "ports").find(|p| text(p, &["name"]) == name).and_then(|p| p.get("port").and_then(number))
        else {
            continue;
        };
        for endpoint in items(&body, "endpoints") {
            let ready =
                endpoint.get("conditions").and_then(|c| c.get("ready")).and_then(Value::as_bool).unwrap_or(true);
            let addresses = items(endpoint, "addresses").filter_map(Value::as_str);
            found.extend(addresses.filter(|_| ready).map(|address| (address.to_owned(), port)));
        }
    }
    let at = rt::rand::below(found.len() as u64);
    found.into_iter().nth(usize::try_from(at).ok()?).filter(|(address, _)| address.parse::<IpAddr>().is_ok())
}

#[async_trait]
impl Caller for HttpCaller {
    async fn call(&self, target: &Target, review: &Value, timeout: Duration) -> Result<Value, CallError> {
        let seconds = timeout.as_secs();
        let body = Bytes::from(serde_json::to_vec(review).map_err(|e| CallError(e.to_string()))?);
        let outcome = rt::time::timeout(timeout, self.exchange(target, &body, seconds)).await;
        let failed = |cause: &str| CallError(format!("Post \"{}?timeout={seconds}s\": {cause}", target.url()));
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(cause)) => Err(failed(&cause)),
            Err(_) => Err(failed("context deadline exceeded")),
        }
    }
}
