//! Bearer tokens: finding the token in a request, and asking the token authenticators in order.

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Authenticated, AuthenticationError, Authenticator, Credentials};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::cache::{Cache, digest};

/// Seconds that a token's success is believed, as upstream's default.
const CACHE_SECONDS: i64 = 10;
/// Tokens remembered.
const CACHED_TOKENS: usize = 8192;
/// Sub-protocol by which browsers carry a token.
const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Knows one kind of token.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync {
    /// The token's user; `None` when the token is of another kind. `audiences` is never empty.
    ///
    /// # Errors
    /// The token is of this kind, and wrong.
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError>;
}

/// All token authenticators, with a cache of successes.
pub(crate) struct Bearer {
    pub(crate) authenticators: Vec<Arc<dyn TokenAuthenticator>>,
    pub(crate) api_audiences: Vec<String>,
    cache: Cache<[u8; 32], Authenticated>,
}

impl Bearer {
    pub(crate) fn new(authenticators: Vec<Arc<dyn TokenAuthenticator>>, api_audiences: Vec<String>) -> Self {
        Self { authenticators, api_audiences, cache: Cache::new(CACHED_TOKENS) }
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Option<Authenticated>, AuthenticationError> {
        let audiences = if audiences.is_empty() { &self.api_audiences } else { audiences };
        let parts: Vec<&[u8]> =
            std::iter::once(token.as_bytes()).chain(audiences.iter().map(String::as_bytes)).collect();
        let key = digest(&parts);
        if let Some(known) = self.cache.get(&key) {
            return Ok(Some(known));
        }
        let mut errors = Vec::new();
        for authenticator in &self.authenticators {
            match authenticator.authenticate_token(token, audiences).await {
                Ok(Some(found)) => {
                    self.cache.put(key, found.clone(), rt::time::unix_seconds() + CACHE_SECONDS);
                    return Ok(Some(found));
                }
                Ok(None) => {}
                Err(error) => errors.push(error.message),
            }
        }
        if errors.is_empty() { Ok(None) } else { Err(AuthenticationError { message: errors.join(", ") }) }
    }
}

#[async_trait]
impl Authenticator for Bearer {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some(token) = find_token(credentials) else { return Ok(None) };
        match self.ask(&token, &[]).await? {
            Some(found) => Ok(Some(found)),
            None => Err(AuthenticationError { message: "invalid bearer token".into() }),
        }
    }

    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        self.ask(token, audiences).await
    }
}

fn find_token(credentials: &Credentials<'_>) -> Option<String> {
    if let Some(header) = credentials.authorization {
        let mut words = header.trim().splitn(3, ' ');
        if words.next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer")) {
            return words.next().filter(|token| !token.is_empty()).map(str::to_owned);
        }
    }
    let protocols = credentials.headers?.get_all("sec-websocket-protocol");
    let encoded = protocols
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(WEBSOCKET_PREFIX))?;
    let token = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(token).ok().filter(|token| !token.is_empty())
}

/// The audiences that a proof without audiences of its own is good for: the API server's, as far as they are asked for.
pub(crate) fn implicit_audiences(api_audiences: &[String], wanted: &[String]) -> Option<Vec<String>> {
    let common: Vec<String> = api_audiences.iter().filter(|a| wanted.contains(a)).cloned().collect();
    (!common.is_empty()).then_some(common)
}
