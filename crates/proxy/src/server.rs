//! The proxy's HTTP faces: `/healthz` and `/livez` for load balancers, and `/metrics`, `/proxyMode`, `/configz` for
//! people on the node.

use crate::health::ProxyHealth;
use crate::metrics::Metrics;
use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use std::sync::Arc;
use wire::{Body, ConnInfo};

/// A whole answer.
pub(crate) fn answer(status: StatusCode, kind: &'static str, body: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(wire::full(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

fn not_found() -> Response<Body> {
    answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// Port 10256.
pub struct Healthz {
    /// The proxy's health.
    pub health: Arc<ProxyHealth>,
    /// Counts answers.
    pub(crate) metrics: Arc<Metrics>,
}

#[async_trait]
impl wire::Service for Healthz {
    async fn call(&self, request: Request<Body>, _connection: Arc<ConnInfo>) -> Response<Body> {
        let (name, ok, eligible) = match request.uri().path() {
            "/healthz" => {
                let (ok, eligible) = self.health.healthy();
                ("healthz", ok, Some(eligible))
            }
            "/livez" => ("livez", self.health.live(), None),
            _ => return not_found(),
        };
        let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        self.metrics.count(&format!("kubeproxy_proxy_{name}_total{{code=\"{}\"}}", status.as_u16()), 1);
        let now = rt::time::now().to_string();
        let mut body = serde_json::json!({ "lastUpdated": now, "currentTime": now });
        if let Some(eligible) = eligible {
            body["nodeEligible"] = eligible.into();
        }
        let mut response = answer(status, "application/json", body.to_string());
        response.headers_mut().insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
        response
    }
}

/// Port 10249.
pub struct MetricsServer {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) configz: serde_json::Value,
}

#[async_trait]
impl wire::Service for MetricsServer {
    async fn call(&self, request: Request<Body>, _connection: Arc<ConnInfo>) -> Response<Body> {
        match request.uri().path() {
            "/metrics" => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.text()),
            "/healthz" => answer(StatusCode::OK, "text/plain; charset=utf-8", "ok"),
            "/proxyMode" => answer(StatusCode::OK, "text/plain; charset=utf-8", "nftables"),
            "/configz" => answer(StatusCode::OK, "application/json", self.configz.to_string()),
            _ => not_found(),
        }
    }
}
