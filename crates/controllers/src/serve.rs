//! The face of `kube-controller-manager` on its secure port: health of each controller and metrics.
//!
//! Health is open to all, as upstream's `--authorization-always-allow-paths`; the rest asks the API server who the caller
//! is and what he may.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use client::Client;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use rt::Shutdown;
use serde_json::{Value, json};
use wire::{Body, ConnInfo};

use crate::flags::{Error, Flags};
use crate::frame::Health;

const CERT_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

struct Face {
    client: Client,
    health: Health,
    open: Vec<String>,
}

fn answer(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(wire::full(text.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What upstream's `/healthz` says: each check when asked verbosely or when one fails.
fn health(health: &Health, path: &str, verbose: bool) -> (StatusCode, String) {
    let all = health.all();
    if let Some(name) = path.strip_prefix("/healthz/") {
        return match all.iter().find(|(check, _)| *check == name) {
            None => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
            Some((_, true)) => (StatusCode::OK, "ok".to_owned()),
            Some((_, false)) => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error: not running\n".to_owned()),
        };
    }
    let good = all.iter().all(|(_, running)| *running);
    if good && !verbose {
        return (StatusCode::OK, "ok".to_owned());
    }
    let mut text = String::new();
    for (name, running) in &all {
        text.push_str(&if *running {
            format!("[+]{name} ok\n")
        } else {
            format!("[-]{name} failed: reason withheld\n")
        });
    }
    text.push_str(if good { "healthz check passed\n" } else { "healthz check failed\n" });
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
        match path.as_str() {
            "/metrics" => answer(StatusCode::OK, telemetry::metrics::render()),
            "/version" => {
                answer(StatusCode::OK, json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0"}).to_string())
            }
            "/livez" | "/readyz" | "/healthz" => {
                let verbose = request.uri.query().is_some_and(|q| q.split('&').any(|p| p.starts_with("verbose")));
                let (status, text) = health(&self.health, &path, verbose);
                answer(status, text)
            }
            path if path.starts_with("/healthz/") => {
                let (status, text) = health(&self.health, path, false);
                answer(status, text)
            }
            _ => answer(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }
}

impl Face {
    async fn ask(&self, path: &str, review: &Value) -> Option<Value> {
        let payload = Bytes::from(review.to_string());
        let answer = self.client.call(Method::POST, path, Some("application/json"), payload).await;
        match answer {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) => {
                tracing::debug!(error = error.chain(), path, "the API server does not review");
                None
            }
        }
    }

    /// Asks the API server about the caller.
    async fn authorize(&self, request: &request::Parts, path: &str) -> Result<(), Response<Body>> {
        let token = request.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let Some(token) = token.and_then(|v| v.strip_prefix("Bearer ")) else {
            return Err(answer(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
        });
        let known = self.ask("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.unwrap_or_default();
        let user = &known["status"]["user"];
        if known["status"]["authenticated"] != true {
            return Err(answer(StatusCode::UNAUTHORIZED, "Unauthorized"));
        }
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": user["username"], "groups": user["groups"], "uid": user["uid"], "extra": user["extra"],
                "nonResourceAttributes": {"path": path, "verb": request.method.as_str().to_lowercase()},
            },
        });
        let may = self.ask("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await.unwrap_or_default();
        if may["status"]["allowed"] == true {
            return Ok(());
        }
        Err(answer(StatusCode::FORBIDDEN, format!("forbidden: User {} cannot get path {path:?}", user["username"])))
    }
}

fn certificate(flags: &Flags) -> Result<wire::TlsSource, Error> {
    let source = |certificate: Vec<u8>, key: Vec<u8>| wire::TlsSource { certificate, key, ..Default::default() };
    let read = |flag: &'static str, path: &Path| {
        std::fs::read(path).map_err(|source| Error::Read { flag, path: path.to_owned(), source })
    };
    if let (Some(certificate), Some(key)) = (&flags.tls_cert_file, &flags.tls_private_key_file) {
        return Ok(source(read("tls-cert-file", certificate)?, read("tls-private-key-file", key)?));
    }
    let value = |error: pki::Error| Error::Value { flag: "cert-dir", message: error.to_string() };
    let pair = pki::Pair::new_ca("kube-controller-manager-ca").map_err(value)?;
    let sans = [pki::San::Dns("localhost".into()), pki::San::Ip(IpAddr::from([127, 0, 0, 1]))];
    let subject = pki::Subject::new("kube-controller-manager", &[]);
    let own = pair.issue(&subject, &sans, pki::Usage::SERVER, CERT_LIFE).map_err(value)?;
    Ok(source(own.cert_pem().into_bytes(), own.key_pem().into_bytes()))
}

/// Opens the secure port; none when `--secure-port=0`.
///
/// # Errors
/// The port is taken, or the certificate cannot be used.
pub(crate) async fn start(flags: &Flags, client: &Client, health: Health, shutdown: &Shutdown) -> Result<(), Error> {
    if flags.secure_port == 0 {
        return Ok(());
    }
    let tls = wire::TlsConfig::new(&certificate(flags)?)
        .map_err(|error| Error::Value { flag: "tls-cert-file", message: error.to_string() })?;
    let address = SocketAddr::new(flags.bind_address, flags.secure_port);
    let bound = wire::bind(address, Some(tls))
        .await
        .map_err(|error| Error::Value { flag: "secure-port", message: format!("listen on {address}: {error}") })?;
    let face = Face { client: client.clone(), health, open: flags.authorization_always_allow_paths.clone() };
    rt::spawn("secure port", wire::serve(bound, Arc::new(face), shutdown.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_controller_that_is_down_shows() {
        let all = Health::default();
        all.set("a", true);
        all.set("b", true);
        assert_eq!(health(&all, "/healthz", false), (StatusCode::OK, "ok".to_owned()));
        all.set("b", false);
        let (status, text) = health(&all, "/healthz", false);
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text.contains("[+]a ok") && text.contains("[-]b failed"), "{text}");
        assert_eq!(health(&all, "/healthz/a", false).0, StatusCode::OK);
        assert_eq!(health(&all, "/healthz/c", false).0, StatusCode::NOT_FOUND);
    }
}
