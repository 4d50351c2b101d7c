//! Who proves what.

use async_trait::async_trait;

use crate::UserInfo;

/// What a request brings to prove its user. Never logged.
#[derive(Clone, Default)]
pub struct Credentials<'a> {
    /// Value of the `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The verified TLS client certificate chain in DER, leaf first; empty when none was shown.
    pub peer_certificates: &'a [Vec<u8>],
    /// All request headers, for the front-proxy.
    pub headers: Option<&'a http::HeaderMap>,
    /// The URL path, for anonymous access to some paths only.
    pub path: &'a str,
}

/// A user, proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// The user.
    pub user: UserInfo,
    /// Audiences that the proof is good for, when it names some.
    pub audiences: Vec<String>,
}

/// A proof was shown and is wrong.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct AuthenticationError {
    /// For the log, never for the client.
    pub message: String,
}

/// Turns credentials into a user.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The user; `None` when the credentials are of a kind that this authenticator does not know.
    ///
    /// # Errors
    /// The credentials are of its kind, and wrong. Others are asked still; all failing answers 401.
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Authenticated>, AuthenticationError>;

    /// Authenticates a bearer token for given audiences (`TokenReview`).
    ///
    /// # Errors
    /// The token is of its kind, and wrong.
    async fn authenticate_token(
        &self,
        _token: &str,
        _audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        Ok(None)
    }
}
