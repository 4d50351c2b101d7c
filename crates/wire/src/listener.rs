//! Listeners: HTTP/1.1 and HTTP/2 on one port, plain or TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rt::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::{Body, BoxError, TlsConfig};

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 streams per connection, as upstream's default.
const MAX_STREAMS: u32 = 250;
/// How long open requests may finish after shutdown began.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Facts about the connection that a request came by.
#[derive(Debug, Clone, Default)]
pub struct ConnInfo {
    /// The peer's address; none in process.
    pub remote: Option<SocketAddr>,
    /// Our address.
    pub local: Option<SocketAddr>,
    /// Whether it is TLS.
    pub tls: bool,
    /// The client's certificate chain in DER, leaf first: its key is proved, its issuer is not.
    pub peer_certificates: Vec<Vec<u8>>,
}

/// Answers requests. It never fails: failures are answers.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// One request. Dropping the future cancels it.
    async fn call(&self, request: Request<Body>, connection: Arc<ConnInfo>) -> Response<Body>;
}

/// A bound listener.
pub struct Bound {
    listener: TcpListener,
    tls: Option<TlsConfig>,
    max_streams: u32,
}

impl Bound {
    /// Allows this many HTTP/2 streams per connection instead of upstream's default, for services whose clients keep
    /// hundreds of long ones.
    #[must_use]
    pub fn with_max_streams(mut self, max_streams: u32) -> Self {
        self.max_streams = max_streams;
        self
    }

    /// The address it listens on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }
}

/// Binds an address; with `tls` only TLS is spoken there.
///
/// # Errors
/// The address cannot be bound.
pub async fn bind(address: SocketAddr, tls: Option<TlsConfig>) -> std::io::Result<Bound> {
    Ok(Bound { listener: TcpListener::bind(address).await?, tls, max_streams: MAX_STREAMS })
}

/// Serves until shutdown, then lets open requests finish for some seconds.
pub async fn serve(bound: Bound, service: Arc<dyn Service>, shutdown: Shutdown) {
    let Bound { listener, tls, max_streams } = bound;
    let drained = Shutdown::new();
    let (alive, mut all_gone) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let accepted = match shutdown.run(listener.accept()).await {
            None => break,
            Some(accepted) => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                let (service, shutdown, drained) = (service.clone(), shutdown.clone(), drained.clone());
                let (tls, alive) = (tls.as_ref().map(TlsConfig::current), alive.clone());
                rt::spawn("connection", async move {
                    let _alive = alive;
                    drained.run(connection(stream, remote, tls, max_streams, service, shutdown)).await;
                });
            }
            Err(error) => {
                // Out of descriptors or the like: wait for some to be closed instead of spinning.
                warn!(%error, "accept failed");
                rt::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop((listener, alive));
    if rt::time::timeout(DRAIN_TIMEOUT, all_gone.recv()).await.is_err() {
        drained.cancel();
    }
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    max_streams: u32,
    service: Arc<dyn Service>,
    shutdown: Shutdown,
) {
    // Small writes (watch events) must not wait for acknowledgements.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "set TCP_NODELAY failed");
    }
    let mut info = ConnInfo { remote: Some(remote), local: stream.local_addr().ok(), ..ConnInfo::default() };
    let Some(config) = tls else {
        return http(stream, Arc::new(info), max_streams, service, shutdown).await;
    };
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
    match rt::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => {
            info.tls = true;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            info.peer_certificates = chain.iter().map(|c| c.as_ref().to_vec()).collect();
            http(stream, Arc::new(info), max_streams, service, shutdown).await;
        }
        Ok(Err(error)) => debug!(%error, %remote, "TLS handshake failed"),
        Err(_) => debug!(%remote, "TLS handshake timed out"),
    }
}

async fn http<S>(stream: S, info: Arc<ConnInfo>, max_streams: u32, service: Arc<dyn Service>, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(32)).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_streams)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, info) = (service.clone(), info.clone());
        async move {
            let request = request.map(|body| body.map_err(|e| Box::new(e) as BoxError).boxed_unsync());
            Ok::<_, Infallible>(service.call(request, info).await)
        }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let result = rt::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(error = %error, "connection ended");
    }
}
