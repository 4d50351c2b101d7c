//! Issuing service-account tokens (`TokenRequest`).

use async_trait::async_trait;

/// The object whose life bounds the token's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundObject {
    /// `Pod`, `Secret` or `Node`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

/// What the token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// Namespace of the service account.
    pub namespace: String,
    /// Name of the service account.
    pub name: String,
    /// Uid of the service account.
    pub uid: String,
    /// Audiences; empty means the API server's own.
    pub audiences: Vec<String>,
    /// Life in seconds, already checked against upstream's bounds.
    pub expiration_seconds: i64,
    /// The object it is bound to.
    pub bound: Option<BoundObject>,
    /// Name and uid of the node that the bound pod runs on.
    pub node: Option<(String, String)>,
    /// When the holder should ask again, in seconds, if that is earlier than the expiry.
    pub warn_after_seconds: Option<i64>,
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("sign service account token: {message}")]
pub struct TokenError {
    /// For people.
    pub message: String,
}

/// Makes service-account tokens.
#[async_trait]
pub trait ServiceAccountTokenIssuer: Send + Sync {
    /// Signs a token; returns it and its expiry in seconds since 1970.
    ///
    /// # Errors
    /// The key cannot sign.
    async fn issue(&self, claims: &TokenClaims) -> Result<(String, i64), TokenError>;

    /// The audiences that a token gets which asks for none.
    fn default_audiences(&self) -> Vec<String>;

    /// The discovery document of `/.well-known/openid-configuration` as JSON.
    fn openid_configuration(&self) -> String;

    /// The key set of `/openid/v1/jwks` as JSON.
    fn jwks(&self) -> String;
}
