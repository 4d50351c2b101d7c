//! `/health` and `/ready`.

use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wire::{Body, ConnInfo};

/// Whether the first lists are there.
#[derive(Debug, Clone, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    /// They are.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

#[async_trait]
impl wire::Service for Flag {
    async fn call(&self, request: Request<Body>, _connection: Arc<ConnInfo>) -> Response<Body> {
        let status = match request.uri().path() {
            "/health" => StatusCode::OK,
            "/ready" if self.0.load(Ordering::Acquire) => StatusCode::OK,
            "/ready" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::NOT_FOUND,
        };
        let text = if status == StatusCode::OK { "OK" } else { "" };
        let mut response = Response::new(wire::full(text));
        *response.status_mut() = status;
        response
    }
}
