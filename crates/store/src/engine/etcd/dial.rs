//! Connections.

use std::{io, time::Duration};

use grpc::tonic::{
    codegen::{Service, http::Uri},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::EtcdOptions;
use crate::{Error, Result};

/// As upstream's clients do, so that a dead peer is noticed under an idle watch.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for many large answers at once on one connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
const STREAM_WINDOW: u32 = 4 << 20;

/// One lazy connection per endpoint.
pub(super) fn channels(options: &EtcdOptions) -> Result<Vec<Channel>> {
    options.endpoints.iter().map(|endpoint| channel(endpoint, options)).collect()
}

fn channel(endpoint: &str, options: &EtcdOptions) -> Result<Channel> {
    let url = match (endpoint.contains("://"), &options.tls) {
        (true, _) => endpoint.to_owned(),
        (false, Some(_)) => format!("https://{endpoint}"),
        (false, None) => format!("http://{endpoint}"),
    };
    let secure = url.starts_with("https://");
    let mut endpoint = Endpoint::from_shared(url)
        .map_err(|_| Error::Invalid("an etcd endpoint is not a URL"))?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW);
    if secure {
        let tls = options.tls.clone().unwrap_or_default();
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(tls.ca));
        if let Some((certificate, key)) = tls.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = tls.server_name {
            config = config.domain_name(name);
        }
        endpoint = endpoint.tls_config(config).map_err(|source| Error::engine("read the certificates", source))?;
    }
    Ok(endpoint.connect_with_connector_lazy(Dial))
}

/// Connects without the C library's resolver, which a static binary cannot use.
#[derive(Debug, Clone, Copy)]
struct Dial;

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = futures::future::BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| invalid("an endpoint without a host"))?;
            let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let port = uri.port_u16().unwrap_or(default_port);
            let stream = wire::dial(host, port).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
