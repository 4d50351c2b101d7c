//! The embedded store served as the etcd v3 gRPC API.
//!
//! [`run`] is the whole `etcd` command; [`Face`] puts the same services on a store that another component has open.

mod admin;
mod convert;
mod errors;
mod face;
pub mod flags;
mod kv;
mod lease;
mod select;
mod watch;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, sync::Arc};

use store::{Embedded, EmbeddedOptions, Store};

pub use face::{Face, FaceOptions};
pub use flags::Flags;

/// The etcd whose API this is; clients derive from it what they may use.
pub const API_VERSION: &str = "3.5.30";
/// The cluster version that belongs to it.
pub const CLUSTER_VERSION: &str = "3.5.0";

/// A client keeps a stream per watch, and has hundreds; etcd has no limit.
const MAX_STREAMS: u32 = 100_000;

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error("cannot open the store in {}", dir.display())]
    Open {
        /// Its directory.
        dir: PathBuf,
        /// Why.
        source: store::Error,
    },
    /// A URL of a flag cannot be used.
    #[error("{flag}: {url:?} {what}")]
    Url {
        /// The flag.
        flag: &'static str,
        /// The URL.
        url: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file of a flag cannot be read.
    #[error("{flag}: cannot read {}", path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The certificates do not make a TLS configuration.
    #[error("--cert-file, --key-file, --trusted-ca-file")]
    Tls(#[from] wire::TlsError),
}

/// Runs the `etcd` command, whose name is the first argument, until `shutdown`; returns the exit code.
pub async fn run(args: Vec<OsString>, shutdown: rt::Shutdown) -> u8 {
    let flags = match Flags::read(args) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to say if even that fails.
            let _ = error.print();
            return error.exit_code().try_into().unwrap_or(2);
        }
    };
    if flags.version {
        println!("etcd Version: {API_VERSION}\ncorten Version: {}", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    let format = if flags.log_format == "json" { telemetry::logs::Format::Json } else { telemetry::logs::Format::Text };
    telemetry::logs::init(format, if flags.log_level == "debug" { 5 } else { 0 });
    match serve(flags, shutdown).await {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(error = %errors::chain(&error), "etcd stopped");
            1
        }
    }
}

/// Opens the store and serves it until `shutdown`, then closes it.
///
/// # Errors
/// What cannot be opened, read or listened on.
pub async fn serve(flags: Flags, shutdown: rt::Shutdown) -> Result<(), Error> {
    let tls = tls(&flags)?;
    let dir = flags.data_dir();
    let options = EmbeddedOptions {
        max_txn_ops: flags.max_txn_ops,
        max_request_bytes: flags.max_request_bytes,
        quota_bytes: flags.quota_backend_bytes,
        progress_interval: flags.watch_progress_notify_interval,
        ..EmbeddedOptions::default()
    };
    let store = Embedded::open(&dir, options).await.map_err(|source| Error::Open { dir: dir.clone(), source })?;
    let revision = store.current_revision().await.unwrap_or_default();
    tracing::info!(dir = %dir.display(), rv = revision, "opened the store");
    if flags.peers.given() {
        tracing::info!("this store has one member; flags about peers have no effect");
    }
    let result = listen_and_serve(&flags, tls, store.clone(), shutdown).await;
    store.close().await;
    result
}

async fn listen_and_serve(
    flags: &Flags,
    tls: Option<wire::TlsConfig>,
    store: Arc<Embedded>,
    shutdown: rt::Shutdown,
) -> Result<(), Error> {
    let (mut bound, mut insecure) = (Vec::new(), Vec::new());
    for url in &flags.listen_client_urls {
        let (secure, addresses) = addresses("--listen-client-urls", url)?;
        if secure && tls.is_none() {
            return Err(Error::Url {
                flag: "--listen-client-urls",
                url: url.clone(),
                what: "needs --cert-file and --key-file",
            });
        }
        bound.extend(bind(&addresses, if secure { tls.clone() } else { None }).await?);
        if !secure {
            insecure.extend(addresses);
        }
    }
    let face = |require_client_certificate| FaceOptions {
        name: flags.name.clone(),
        client_urls: flags.advertise_client_urls.clone(),
        peer_urls: flags.peers.initial_advertise_peer_urls.clone(),
        max_request_bytes: flags.max_request_bytes,
        quota_bytes: flags.quota_backend_bytes,
        require_client_certificate,
    };
    let clients = Arc::new(Face::new(store.clone(), face(flags.client_cert_auth)));
    let mut listeners: Vec<_> =
        bound.into_iter().map(|bound| wire::serve(bound, clients.clone(), shutdown.clone())).collect();
    for url in &flags.listen_metrics_urls {
        let (secure, addresses) = addresses("--listen-metrics-urls", url)?;
        let metrics = Arc::new(Metrics(Face::new(store.clone(), face(false))));
        for bound in bind(&addresses, if secure { tls.clone() } else { None }).await? {
            listeners.push(wire::serve(bound, metrics.clone(), shutdown.clone()));
        }
    }
    tracing::info!(urls = ?flags.listen_client_urls, "ready to serve client requests");
    // Last, as etcd does it: people read the address off the end.
    for address in insecure {
        tracing::warn!("client requests are neither encrypted nor authenticated: serving insecure on {address}");
    }
    // The store closes when the stop comes, so that watches end and connections can drain.
    let closing = async {
        shutdown.cancelled().await;
        store.close().await;
    };
    futures::future::join(futures::future::join_all(listeners), closing).await;
    Ok(())
}

/// The face without its gRPC services, for `--listen-metrics-urls`.
struct Metrics(Face);

#[async_trait::async_trait]
impl wire::Service for Metrics {
    async fn call(
        &self,
        mut request: http::Request<wire::Body>,
        connection: Arc<wire::ConnInfo>,
    ) -> http::Response<wire::Body> {
        request.headers_mut().remove(http::header::CONTENT_TYPE);
        self.0.call(request, connection).await
    }
}

async fn bind(addresses: &[SocketAddr], tls: Option<wire::TlsConfig>) -> Result<Vec<wire::Bound>, Error> {
    let mut bound = Vec::new();
    for address in addresses {
        let listener = wire::bind(*address, tls.clone()).await;
        let listener = listener.map_err(|source| Error::Listen { address: *address, source })?;
        bound.push(listener.with_max_streams(MAX_STREAMS));
    }
    Ok(bound)
}

/// Whether a URL is https, and the addresses it stands for. As etcd, it takes addresses and `localhost`, no other names.
fn addresses(flag: &'static str, text: &str) -> Result<(bool, Vec<SocketAddr>), Error> {
    let wrong = |what| Error::Url { flag, url: text.to_owned(), what };
    let url = url::Url::parse(text).map_err(|_| wrong("is not a URL"))?;
    let secure = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(wrong("is neither http nor https")),
    };
    let port = url.port().ok_or_else(|| wrong("has no port"))?;
    let ip = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.into(),
        Some(url::Host::Ipv6(ip)) => ip.into(),
        Some(url::Host::Domain("localhost")) => std::net::Ipv4Addr::LOCALHOST.into(),
        _ => return Err(wrong("must have an IP address to bind to")),
    };
    Ok((secure, vec![SocketAddr::new(ip, port)]))
}

fn tls(flags: &Flags) -> Result<Option<wire::TlsConfig>, Error> {
    let read =
        |flag, path: &PathBuf| std::fs::read(path).map_err(|source| Error::File { flag, path: path.clone(), source });
    let (Some(certificate), Some(key)) = (&flags.cert_file, &flags.key_file) else { return Ok(None) };
    // As etcd: the authorities alone ask nobody for a certificate.
    let client_ca = match &flags.trusted_ca_file {
        Some(ca) if flags.client_cert_auth => read("--trusted-ca-file", ca)?,
        _ => Vec::new(),
    };
    let source = wire::TlsSource {
        certificate: read("--cert-file", certificate)?,
        key: read("--key-file", key)?,
        client_ca,
        ..wire::TlsSource::default()
    };
    Ok(Some(wire::TlsConfig::new(&source)?))
}
