//! Connections to kubelets, pods and services.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use meta::{Object, Status};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use wire::{Body, BoxError};

use crate::config::KubeletClient;
use crate::server::State;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The kubelet's port when the node does not tell.
const KUBELET_PORT: i64 = 10250;

/// TLS towards kubelets (verified, with our certificate) and towards pods (as upstream: not verified).
pub(crate) struct Kubelets {
    kubelet: Arc<rustls::ClientConfig>,
    pods: Arc<rustls::ClientConfig>,
    preferred: Vec<String>,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    pub host: String,
    pub port: u16,
    pub tls: Option<Peer>,
}

/// Whom we speak TLS with.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    Kubelet,
    Pod,
    /// Somebody with a configuration of his own, by name.
    Named(Arc<rustls::ClientConfig>, String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A client configuration: verified by `ca` (any certificate when it is empty), with a certificate of our own when there is one.
fn client(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<rustls::ClientConfig, String> {
    let provider = pki::tls::provider();
    let verifier: Arc<dyn ServerCertVerifier> = if ca.is_empty() {
        pki::tls::any_server()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut &*ca) {
            roots.add(certificate.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| e.to_string())?
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?.dangerous().with_custom_certificate_verifier(verifier);
    if certificate.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = rustls_pemfile::certs(&mut &*certificate).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let key = rustls_pemfile::private_key(&mut &*key).map_err(|e| e.to_string())?;
    builder.with_client_auth_cert(chain, key.ok_or("the client key holds no key")?).map_err(|e| e.to_string())
}

/// The configuration towards an aggregated server: we show the front proxy's certificate.
pub(crate) fn proxy_tls(ca: &[u8], identity: &(Vec<u8>, Vec<u8>)) -> Result<rustls::ClientConfig, String> {
    client(ca, &identity.0, &identity.1)
}

impl Kubelets {
    /// Prepares TLS.
    pub fn new(source: &KubeletClient) -> Result<Self, String> {
        let kubelet = client(&source.ca, &source.certificate, &source.key)?;
        let pods = client(&[], &[], &[])?;
        let preferred = if source.preferred_address_types.is_empty() {
            ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"].map(str::to_owned).to_vec()
        } else {
            source.preferred_address_types.clone()
        };
        Ok(Self { kubelet: Arc::new(kubelet), pods: Arc::new(pods), preferred })
    }

    /// The kubelet of a node, from the node's status.
    pub async fn of_node(&self, state: &State, name: &str) -> Result<Backend, Status> {
        let nodes = state.registry.need("", "nodes")?;
        let node = match nodes.get_cached("", name).await? {
            Some(node) => node,
            None => nodes.get_object("", name).await?,
        };
        let port = node.get_i64(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).filter(|p| *p > 0);
        let port = u16::try_from(port.unwrap_or(KUBELET_PORT)).map_err(Status::internal)?;
        let host = self.address(&node).ok_or_else(|| {
            Status::internal(format!(
                "no preferred addresses found; known addresses: {:?}",
                node.get(&["status", "addresses"])
            ))
        })?;
        Ok(Backend { host, port, tls: Some(Peer::Kubelet) })
    }

    fn address(&self, node: &Object) -> Option<String> {
        let addresses = node.get(&["status", "addresses"])?.as_array()?;
        self.preferred.iter().find_map(|kind| {
            let found = addresses.iter().find(|a| a["type"].as_str() == Some(kind))?;
            found["address"].as_str().map(str::to_owned)
        })
    }

    async fn connect(&self, backend: &Backend) -> Result<Box<dyn Stream>, BoxError> {
        let host = backend.host.trim_matches(['[', ']']);
        let tcp = rt::time::timeout(CONNECT_TIMEOUT, wire::dial(host, backend.port)).await??;
        tcp.set_nodelay(true)?;
        let (config, name) = match &backend.tls {
            None => return Ok(Box::new(tcp)),
            Some(Peer::Kubelet) => (&self.kubelet, host),
            Some(Peer::Pod) => (&self.pods, host),
            Some(Peer::Named(config, name)) => (config, name.as_str()),
        };
        let name = ServerName::try_from(name.to_owned())?;
        let connecting = tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp);
        Ok(Box::new(rt::time::timeout(CONNECT_TIMEOUT, connecting).await??))
    }

    /// Sends a request; the answer may be an upgrade.
    pub async fn send(
        &self,
        backend: &Backend,
        mut request: Request<Body>,
    ) -> Result<Response<hyper::body::Incoming>, Status> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Status::failure(
                503,
                meta::reason::SERVICE_UNAVAILABLE,
                format!("error trying to reach service: {what} {}:{}: {error}", backend.host, backend.port),
            )
        };
        let stream = self.connect(backend).await.map_err(|e| failed("dial tcp", &e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed("handshake with", &e))?;
        rt::spawn("backend-connection", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "backend connection ended");
            }
        });
        if !request.headers().contains_key(header::HOST)
            && let Ok(host) = format!("{}:{}", backend.host, backend.port).parse()
        {
            request.headers_mut().insert(header::HOST, host);
        }
        sender.send_request(request).await.map_err(|e| failed("request to", &e))
    }
}

/// Headers that belong to one connection and are not passed on (but for upgrades).
pub(crate) fn strip_hop_headers(headers: &mut HeaderMap, keep_upgrade: bool) {
    for name in ["keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"] {
        headers.remove(name);
    }
    if !keep_upgrade {
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
    }
}

/// A backend's answer as ours, streamed.
pub(crate) fn pass_on(response: Response<hyper::body::Incoming>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    strip_hop_headers(&mut head.headers, false);
    head.extensions.clear();
    head.version = http::Version::HTTP_11;
    Response::from_parts(head, body.map_err(|e| Box::new(e) as BoxError).boxed_unsync())
}

/// The node that a pod runs on and its phase.
pub(crate) fn node_of(pod: &Object) -> Option<&str> {
    pod.get(&["spec", "nodeName"]).and_then(Value::as_str).filter(|n| !n.is_empty())
}
