//! The face of `kube-scheduler` on its secure port: health and metrics.
//!
//! Health is open to all, as upstream's `--authorization-always-allow-paths`; for the rest the API server is asked who the
//! caller is and what he may.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clap::Args;
use client::Client;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use rt::Shutdown;
use serde_json::{Value, json};
use wire::{Body, ConnInfo};

const CERT_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("--{flag}: read {path}: {source}")]
    Read { flag: &'static str, path: PathBuf, source: std::io::Error },
    #[error("--{flag}: {message}")]
    Value { flag: &'static str, message: String },
}

/// The flags of the port.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeFlags {
    /// Address of the secure port.
    #[arg(long, default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Port for health and metrics over TLS; 0 opens none.
    #[arg(long, default_value_t = 10259)]
    secure_port: u16,
    /// Certificate of the port; without it one is made that nobody trusts.
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Key of the certificate.
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<PathBuf>,
    /// Paths that everybody may ask for.
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    authorization_always_allow_paths: Vec<String>,
}

struct Face {
    client: Client,
    syncing: Arc<AtomicBool>,
    open: Vec<String>,
}

fn answer(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(wire::full(text.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The checks of a path: alive is who answers; ready is whose caches are full.
fn health(path: &str, verbose: bool, syncing: bool) -> (StatusCode, String) {
    let ready = [("ping", true), ("informer-sync", !syncing), ("sched-handler-sync", !syncing)];
    let (root, one) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    let checks = if root == "readyz" { &ready[..] } else { &ready[..1] };
    if !one.is_empty() {
        return match checks.iter().find(|(name, _)| *name == one) {
            None => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
            Some((_, true)) => (StatusCode::OK, "ok".to_owned()),
            Some((_, false)) => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error: not synced\n".to_owned()),
        };
    }
    let good = checks.iter().all(|(_, good)| *good);
    if good && !verbose {
        return (StatusCode::OK, "ok".to_owned());
    }
    let line = |(name, good): &(&str, bool)| match good {
        true => format!("[+]{name} ok\n"),
        false => format!("[-]{name} failed: reason withheld\n"),
    };
    let mut text: String = checks.iter().map(line).collect();
    text.push_str(&format!("{root} check {}\n", if good { "passed" } else { "failed" }));
    (if good { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }, text)
}

#[async_trait]
impl wire::Service for Face {
    async fn call(&self, request: Request<Body>, _connection: Arc<ConnInfo>) -> Response<Body> {
        // The body is not read, and cannot be held while we ask.
        let (request, _) = request.into_parts();
        let path = request.uri.path().to_owned();
        let open = self.open.iter().any(|p| *p == path || path.starts_with(&format!("{p}/")));
        if !open && let Err(refused) = self.authorize(&request, &path).await {
            return refused;
        }
        let root = path.split('/').nth(1).unwrap_or_default();
        match root {
            "metrics" if path == "/metrics" => answer(StatusCode::OK, telemetry::metrics::render()),
            "version" if path == "/version" => {
                answer(StatusCode::OK, json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"}).to_string())
            }
            "livez" | "readyz" | "healthz" => {
                let verbose = request.uri.query().is_some_and(|q| q.split('&').any(|p| p.starts_with("verbose")));
                let (status, text) = health(&path, verbose, self.syncing.load(Ordering::Acquire));
                answer(status, text)
            }
            _ => answer(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }
}

impl Face {
    async fn ask(&self, path: &str, review: &Value) -> Value {
        let payload = Bytes::from(review.to_string());
        match self.client.call(Method::POST, path, Some("application/json"), payload).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) => {
                tracing::debug!(error = error.chain(), path, "the API server does not review");
                Value::Null
            }
        }
    }

    /// Asks the API server about the caller.
    async fn authorize(&self, request: &http::request::Parts, path: &str) -> Result<(), Response<Body>> {
        let token = request.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let Some(token) = token.and_then(|v| v.strip_prefix("Bearer ")) else {
            let text = format!("forbidden: User \"system:anonymous\" cannot get path {path:?}");
            return Err(answer(StatusCode::FORBIDDEN, text));
        };
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
        });
        let known = self.ask("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
        if known["status"]["authenticated"] != true {
            return Err(answer(StatusCode::UNAUTHORIZED, "Unauthorized"));
        }
        let user = &known["status"]["user"];
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": user["username"], "groups": user["groups"], "uid": user["uid"], "extra": user["extra"],
                "nonResourceAttributes": {"path": path, "verb": request.method.as_str().to_lowercase()},
            },
        });
        let may = self.ask("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await;
        if may["status"]["allowed"] == true {
            return Ok(());
        }
        Err(answer(StatusCode::FORBIDDEN, format!("forbidden: User {} cannot get path {path:?}", user["username"])))
    }
}

fn certificate(flags: &ServeFlags) -> Result<wire::TlsSource, Error> {
    let source = |certificate: Vec<u8>, key: Vec<u8>| wire::TlsSource { certificate, key, ..Default::default() };
    let read = |flag: &'static str, path: &Path| {
        std::fs::read(path).map_err(|source| Error::Read { flag, path: path.to_owned(), source })
    };
    if let (Some(certificate), Some(key)) = (&flags.tls_cert_file, &flags.tls_private_key_file) {
        return Ok(source(read("tls-cert-file", certificate)?, read("tls-private-key-file", key)?));
    }
    let value = |error: pki::Error| Error::Value { flag: "tls-cert-file", message: error.to_string() };
    let pair = pki::Pair::new_ca("kube-scheduler-ca").map_err(value)?;
    let sans = [pki::San::Dns("localhost".into()), pki::San::Ip(IpAddr::from([127, 0, 0, 1]))];
    let own =
        pair.issue(&pki::Subject::new("kube-scheduler", &[]), &sans, pki::Usage::SERVER, CERT_LIFE).map_err(value)?;
    Ok(source(own.cert_pem().into_bytes(), own.key_pem().into_bytes()))
}

/// Opens the secure port; none when `--secure-port=0`. `syncing` says that caches are being filled.
///
/// # Errors
/// The port is taken, or the certificate cannot be used.
pub(crate) async fn start(
    flags: &ServeFlags,
    client: &Client,
    syncing: Arc<AtomicBool>,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    if flags.secure_port == 0 {
        return Ok(());
    }
    let tls = wire::TlsConfig::new(&certificate(flags)?)
        .map_err(|error| Error::Value { flag: "tls-cert-file", message: error.to_string() })?;
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let bound = wire::bind(address, Some(tls))
        .await
        .map_err(|error| Error::Value { flag: "secure-port", message: format!("listen on {address}: {error}") })?;
    let face = Face { client: client.clone(), syncing, open: flags.authorization_always_allow_paths.clone() };
    rt::spawn("secure port", wire::serve(bound, Arc::new(face), shutdown.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_synced_alive_before() {
        for (path, syncing, want) in [
            ("/livez", true, StatusCode::OK),
            ("/healthz", true, StatusCode::OK),
            ("/readyz", true, StatusCode::INTERNAL_SERVER_ERROR),
            ("/readyz", false, StatusCode::OK),
            ("/readyz/informer-sync", true, StatusCode::INTERNAL_SERVER_ERROR),
            ("/readyz/ping", true, StatusCode::OK),
            ("/healthz/nothing", false, StatusCode::NOT_FOUND),
        ] {
            assert_eq!(health(path, false, syncing).0, want, "{path}");
        }
        assert!(
            health("/readyz", true, false)
                .1
                .contains("[+]informer-sync ok\n[+]sched-handler-sync ok\nreadyz check passed")
        );
    }
}
