//! JSON Web Tokens of other issuers: OpenID Connect by flags, or by `AuthenticationConfiguration`.
//!
//! A token is verified by the issuer's keys, found by discovery; then claims become a user, by name or by CEL expressions.

mod check;
pub mod config;
mod keys;
mod mapping;

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use auth_api::{Authenticated, AuthenticationError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use rt::time::Instant;
use serde_json::{Map, Value};
use telemetry::metrics::{HistogramVec, histogram_vec};

use self::config::Issuer;
use self::keys::Keys;
use self::mapping::Mapping;
use crate::CREDENTIAL_ID;
use crate::bearer::{TokenAuthenticator, implicit_audiences};

/// How far clocks may differ for `nbf`, as upstream's library has it.
const NOT_BEFORE_LEEWAY: i64 = 300;

/// One issuer.
pub struct Jwt {
    issuer: Issuer,
    keys: Keys,
    mapping: Mapping,
    /// The issuer's URL as metrics show it.
    hash: String,
}

fn latency() -> &'static HistogramVec {
    static LATENCY: OnceLock<HistogramVec> = OnceLock::new();
    LATENCY.get_or_init(|| {
        histogram_vec(
            "apiserver_authentication_jwt_authenticator_latency_seconds",
            "Latency of jwt authentication operations in seconds. This is the time spent authenticating a token for cache miss only (i.e. when the token is not found in the cache).",
            &["result", "jwt_issuer_hash"],
            &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
        )
    })
}

/// The claims of a token, verified or not.
type Claims = Map<String, Value>;

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

impl Jwt {
    /// An authenticator for one issuer's tokens; its keys are fetched when the first token comes.
    ///
    /// # Errors
    /// The CA or an expression cannot be used.
    pub fn new(configuration: config::Jwt) -> Result<Self, String> {
        let keys = Keys::new(&configuration.issuer)?;
        let mapping = Mapping::new(&configuration)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, configuration.issuer.url.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { issuer: configuration.issuer, keys, mapping, hash: format!("sha256:{hex}") })
    }

    async fn authenticate(&self, token: &str) -> Result<Option<auth_api::UserInfo>, String> {
        let mut parts = token.split('.');
        let (Some(head), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Ok(None);
        };
        let (Some(header), Some(claims)) = (part::<Claims>(head), part::<Claims>(payload)) else { return Ok(None) };
        if claims.get("iss").and_then(Value::as_str) != Some(self.issuer.url.as_str()) {
            return Ok(None);
        }
        let text = |name: &str| header.get(name).and_then(Value::as_str).unwrap_or("");
        let algorithm = text("alg");
        if !self.issuer.algorithms.iter().any(|a| a == algorithm) {
            return Err(format!(
                "oidc: verify token: oidc: id token signed with unsupported algorithm, expected {:?} got {algorithm:?}",
                self.issuer.algorithms
            ));
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|e| format!("oidc: malformed signature: {e}"))?;
        let signed = &token[..head.len() + 1 + payload.len()];
        self.keys.verify(algorithm, text("kid"), signed.as_bytes(), &signature).await?;
        self.check(&claims)?;
        let mut user = self.mapping.user(&claims)?;
        if let Some(id) = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()) {
            user.extra.insert(CREDENTIAL_ID.into(), vec![format!("JTI={id}")]);
        }
        Ok(Some(user))
    }

    /// Time and audience.
    fn check(&self, claims: &Claims) -> Result<(), String> {
        let number = |name: &str| claims.get(name).and_then(Value::as_f64).map(|n| n as i64);
        let now = rt::time::unix_seconds();
        let expiry = number("exp").unwrap_or(0);
        if expiry <= now {
            return Err("oidc: verify token: oidc: token is expired".into());
        }
        if number("nbf").is_some_and(|at| now + NOT_BEFORE_LEEWAY < at) {
            return Err("oidc: verify token: oidc: current time is before the nbf (not before) time".into());
        }
        let given: Vec<&str> = match claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !given.iter().any(|a| self.issuer.audiences.iter().any(|wanted| wanted == a)) {
            return Err(format!(
                "oidc: verify token: oidc: expected audience in {:?} got {given:?}",
                self.issuer.audiences
            ));
        }
        Ok(())
    }
}

/// The issuers in force; they may be replaced.
pub struct JwtSet {
    all: RwLock<Arc<Vec<Jwt>>>,
    api_audiences: Vec<String>,
}

impl JwtSet {
    /// A set of issuers.
    ///
    /// # Errors
    /// See [`Jwt::new`].
    pub fn new(configurations: Vec<config::Jwt>, api_audiences: Vec<String>) -> Result<Self, String> {
        let set = Self { all: RwLock::default(), api_audiences };
        set.replace(configurations)?;
        Ok(set)
    }

    /// Puts other issuers in force.
    ///
    /// # Errors
    /// See [`Jwt::new`]; those in force stay.
    pub fn replace(&self, configurations: Vec<config::Jwt>) -> Result<(), String> {
        let fresh = configurations.into_iter().map(Jwt::new).collect::<Result<Vec<_>, _>>()?;
        *self.all.write() = Arc::new(fresh);
        Ok(())
    }
}

#[async_trait]
impl TokenAuthenticator for JwtSet {
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let all = self.all.read().clone();
        for issuer in all.iter() {
            let started = Instant::now();
            let outcome = issuer.authenticate(token).await;
            if !matches!(outcome, Ok(None)) {
                let result = if outcome.is_ok() { "success" } else { "failure" };
                latency().with(&[result, &issuer.hash]).observe(started.elapsed().as_secs_f64());
            }
            match outcome {
                Ok(Some(user)) => {
                    let good = implicit_audiences(&self.api_audiences, audiences);
                    return Ok(good.map(|audiences| Authenticated { user, audiences }));
                }
                Ok(None) => {}
                Err(message) => return Err(AuthenticationError { message }),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
