//! Requests over a socket: HTTP/2 or HTTP/1.1, TLS or plain.

use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, Uri, header, uri};
use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::error::{ConfigError, TransportError};
use crate::transport::{Body, Transport};

/// How to trust the server and what to show it.
#[derive(Default)]
pub struct TlsIdentity {
    /// Certificate authorities in PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// Client certificate chain in PEM.
    pub cert_pem: Option<Vec<u8>>,
    /// Client key in PEM.
    pub key_pem: Option<Vec<u8>>,
    /// Name to expect in the server's certificate, when it differs from the host.
    pub server_name: Option<String>,
    /// Accept any server certificate.
    pub insecure: bool,
}

/// Where a bearer token comes from.
pub(crate) enum Token {
    None,
    Fixed(HeaderValue),
    /// Read again for each request: the kubelet replaces projected tokens in place.
    File(std::path::PathBuf),
}

/// A pooled HTTP client for one server.
pub struct HttpTransport {
    client: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector<wire::Names>>, Body>,
    scheme: uri::Scheme,
    authority: uri::Authority,
    prefix: String,
    token: Token,
}

impl HttpTransport {
    /// A transport to a server such as `https://host:6443`.
    ///
    /// # Errors
    /// The URL, a certificate or a key is malformed.
    pub fn new(server: &str, tls: &TlsIdentity, token: Option<&str>) -> Result<Self, ConfigError> {
        let token = match token {
            None => Token::None,
            Some(token) => Token::Fixed(bearer(token)?),
        };
        Self::with_token(server, tls, token)
    }

    pub(crate) fn with_token(server: &str, tls: &TlsIdentity, token: Token) -> Result<Self, ConfigError> {
        let bad = |what: &str| ConfigError::Invalid(format!("server {server:?}: {what}"));
        let with_scheme = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
        let url: Uri = with_scheme.parse().map_err(|_| bad("not a URL"))?;
        let mut tcp = HttpConnector::new_with_resolver(wire::Names);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(30)));
        let mut connector =
            hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls_config(tls)?).https_or_http();
        if let Some(name) = &tls.server_name {
            let name = ServerName::try_from(name.clone()).map_err(|_| bad("bad tls-server-name"))?;
            connector = connector.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name));
        }
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(15))
            .build(connector.enable_all_versions().wrap_connector(tcp));
        Ok(Self {
            client,
            scheme: url.scheme().cloned().unwrap_or(uri::Scheme::HTTPS),
            authority: url.authority().cloned().ok_or_else(|| bad("no host"))?,
            prefix: url.path().trim_end_matches('/').to_owned(),
            token,
        })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, TransportError> {
        match &self.token {
            Token::None => Ok(None),
            Token::Fixed(value) => Ok(Some(value.clone())),
            Token::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| TransportError::new("read the token file", e))?;
                bearer(text.trim()).map(Some).map_err(|e| TransportError::new("use the token file", e))
            }
        }
    }
}

pub(crate) fn bearer(token: &str) -> Result<HeaderValue, ConfigError> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| ConfigError::Invalid("the bearer token has characters that a header cannot hold".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, mut request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let path = request.uri().path_and_query().map_or("/", uri::PathAndQuery::as_str);
        // The root below a prefix is the prefix itself, without another slash.
        let path = match path.strip_prefix('/') {
            Some(rest) if !self.prefix.is_empty() && (rest.is_empty() || rest.starts_with('?')) => rest,
            _ => path,
        };
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.prefix))
            .build()
            .map_err(|e| TransportError::new("form the URL", e))?;
        *request.uri_mut() = uri;
        if let Some(value) = self.authorization()? {
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        let answer = self.client.request(request).await.map_err(|e| TransportError::new("send the request", e))?;
        Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

fn tls_config(tls: &TlsIdentity) -> Result<rustls::ClientConfig, ConfigError> {
    let builder = rustls::ClientConfig::builder_with_provider(pki::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| ConfigError::Invalid(format!("TLS: {e}")))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(tls.ca_pem.as_deref().unwrap_or_default())? {
        roots.add(certificate).map_err(|e| ConfigError::Invalid(format!("certificate authority: {e}")))?;
    }
    let builder = if tls.insecure {
        builder.dangerous().with_custom_certificate_verifier(pki::tls::any_server())
    } else {
        builder.with_root_certificates(roots)
    };
    match (&tls.cert_pem, &tls.key_pem) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|e| ConfigError::Invalid(format!("client certificate: {e}"))),
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(ConfigError::Invalid("client certificate and key must be given together".into())),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    rustls_pemfile::certs(&mut &*pem)
        .collect::<Result<_, _>>()
        .map_err(|e| ConfigError::Invalid(format!("certificate: {e}")))
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, ConfigError> {
    rustls_pemfile::private_key(&mut &*pem)
        .map_err(|e| ConfigError::Invalid(format!("key: {e}")))?
        .ok_or_else(|| ConfigError::Invalid("the key file holds no private key".into()))
}
