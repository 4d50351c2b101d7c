//! The seam between calls and what carries them.

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use crate::TransportError;

/// A request's or answer's body.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A body of known bytes.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Carries a request to an API server under one identity and brings the answer back.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends the request; the URI holds only path and query. Dropping the future or the answer's body
    /// cancels the request.
    ///
    /// # Errors
    /// The server could not be reached or the connection broke before the answer's head.
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError>;
}
