//! Service-account tokens: issuing, verifying, and issuer discovery.

mod claims;
mod discovery;
mod jwt;
mod validate;

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Authenticated, AuthenticationError, Lookup, ServiceAccountTokenIssuer, TokenClaims, TokenError};
use pki::{Key, PublicKey};

use crate::bearer::TokenAuthenticator;
use claims::{Claims, Private};

/// Issuer of tokens kept in secrets.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// What the API server is told about service-account tokens.
pub struct Config {
    /// `--service-account-issuer`: the first one signs, all are accepted.
    pub issuers: Vec<String>,
    /// `--service-account-signing-key-file`.
    pub signing_key: Option<Key>,
    /// `--service-account-key-file`: keys that are accepted; the signing key's public part is added.
    pub public_keys: Vec<PublicKey>,
    /// `--api-audiences`; the issuers when empty.
    pub api_audiences: Vec<String>,
    /// `--service-account-jwks-uri`; made from `external_address` when empty.
    pub jwks_uri: String,
    /// Host and port at which clients reach the API server.
    pub external_address: String,
    /// `--service-account-lookup`: whether the objects that a token names must still exist.
    pub lookup: bool,
}

/// Issues and verifies service-account tokens.
pub struct Tokens {
    config: Config,
    objects: Arc<dyn Lookup>,
}

impl Tokens {
    /// Takes the configuration and a view of the objects that tokens are bound to.
    pub fn new(mut config: Config, objects: Arc<dyn Lookup>) -> Self {
        if let Some(key) = &config.signing_key
            && !config.public_keys.contains(key.public())
        {
            config.public_keys.insert(0, key.public().clone());
        }
        if config.api_audiences.is_empty() {
            config.api_audiences.clone_from(&config.issuers);
        }
        Self { config, objects }
    }

    fn issuer(&self) -> &str {
        self.config.issuers.first().map(String::as_str).unwrap_or_default()
    }

    fn signing_key(&self) -> Result<&Key, TokenError> {
        self.config.signing_key.as_ref().ok_or_else(|| TokenError { message: "no signing key is configured".into() })
    }

    /// Signs a token for a secret of type `kubernetes.io/service-account-token`; it does not expire.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn issue_legacy(&self, namespace: &str, account: &str, uid: &str, secret: &str) -> Result<String, TokenError> {
        let claims = claims::legacy(namespace, account, uid, secret);
        jwt::sign(self.signing_key()?, &claims).map_err(|e| TokenError { message: e.to_string() })
    }

    async fn verify(&self, token: &str, audiences: &[String]) -> Result<Option<Authenticated>, String> {
        let Some(parsed) = jwt::Parsed::new(token) else { return Ok(None) };
        let Ok(claims) = parsed.claims::<Claims>() else { return Ok(None) };
        let legacy = claims.issuer == LEGACY_ISSUER;
        if !legacy && !self.config.issuers.contains(&claims.issuer) {
            return Ok(None);
        }
        parsed.verify(&self.config.public_keys)?;
        let own = if claims.audiences.0.is_empty() { &self.config.api_audiences } else { &claims.audiences.0 };
        let common: Vec<String> = own.iter().filter(|a| audiences.contains(a)).cloned().collect();
        if common.is_empty() && !self.config.api_audiences.is_empty() {
            return Err(format!("token audiences {own:?} is invalid for the target audiences {audiences:?}"));
        }
        let validator = validate::Validator { objects: self.objects.as_ref(), lookup: self.config.lookup };
        let user = match (&claims.private, legacy) {
            (_, true) => validator.legacy(&claims, token).await?,
            (Some(private), false) => validator.bound(&claims, private).await?,
            (None, false) => validator.bound(&claims, &Private::default()).await?,
        };
        Ok(Some(Authenticated { user, audiences: common }))
    }
}

#[async_trait]
impl TokenAuthenticator for Tokens {
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        self.verify(token, audiences).await.map_err(|message| AuthenticationError { message })
    }
}

#[async_trait]
impl ServiceAccountTokenIssuer for Tokens {
    async fn issue(&self, wanted: &TokenClaims) -> Result<(String, i64), TokenError> {
        let failed = |e: pki::Error| TokenError { message: e.to_string() };
        let audiences = if wanted.audiences.is_empty() { &self.config.api_audiences } else { &wanted.audiences };
        let id = pki::random::uuid().map_err(failed)?;
        let claims = Claims::of(wanted, self.issuer(), audiences, id, rt::time::unix_seconds())
            .map_err(|message| TokenError { message })?;
        let token = jwt::sign(self.signing_key()?, &claims).map_err(failed)?;
        Ok((token, claims.expiry.unwrap_or_default()))
    }

    fn default_audiences(&self) -> Vec<String> {
        self.config.api_audiences.clone()
    }

    fn openid_configuration(&self) -> String {
        let uri = match self.config.jwks_uri.as_str() {
            "" => format!("https://{}/openid/v1/jwks", self.config.external_address),
            uri => uri.to_owned(),
        };
        discovery::configuration(self.issuer(), &uri, &self.config.public_keys)
    }

    fn jwks(&self) -> String {
        discovery::key_set(&self.config.public_keys)
    }
}
