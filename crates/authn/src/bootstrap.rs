//! Bootstrap tokens: secrets of type `bootstrap.kubernetes.io/token` in `kube-system`.

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Authenticated, AuthenticationError, Lookup, UserInfo};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meta::{GroupVersionResource, Object};
use tracing::info;

use crate::bearer::{TokenAuthenticator, implicit_audiences};
use crate::cache::digest;

const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const DEFAULT_GROUP: &str = "system:bootstrappers";

/// Authenticates joining nodes as `system:bootstrap:ID` in `system:bootstrappers`.
pub struct BootstrapTokens {
    lookup: Arc<dyn Lookup>,
    api_audiences: Vec<String>,
}

impl BootstrapTokens {
    /// Looks tokens up through `lookup`.
    pub fn new(lookup: Arc<dyn Lookup>, api_audiences: Vec<String>) -> Self {
        Self { lookup, api_audiences }
    }
}

fn split_token(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

fn data(secret: &Object, key: &str) -> String {
    let encoded = secret.get_str(&["data", key]);
    STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// What is wrong with the secret, if anything; else the extra groups.
fn check(secret: &Object, id: &str, token_secret: &str) -> Result<Vec<String>, &'static str> {
    if secret.deletion_timestamp().is_some() {
        return Err("is deleted and awaiting removal");
    }
    if secret.get_str(&["type"]) != SECRET_TYPE {
        return Err("has an invalid type");
    }
    // Digests compare without telling how much of the secret was right.
    if digest(&[data(secret, "token-secret").as_bytes()]) != digest(&[token_secret.as_bytes()]) {
        return Err("has another token-secret");
    }
    if data(secret, "token-id") != id {
        return Err("has another token-id");
    }
    let expiration = data(secret, "expiration");
    if !expiration.is_empty() {
        match meta::time::parse(&expiration) {
            Ok(end) if rt::time::now() < end => {}
            _ => return Err("has expired"),
        }
    }
    if data(secret, "usage-bootstrap-authentication") != "true" {
        return Err("is not marked for authentication");
    }
    let extra = data(secret, "auth-extra-groups");
    let groups: Vec<String> = extra.split(',').filter(|g| !g.is_empty()).map(str::to_owned).collect();
    if groups.iter().any(|g| !g.starts_with("system:bootstrappers:")) {
        return Err("has invalid auth-extra-groups");
    }
    Ok(groups)
}

#[async_trait]
impl TokenAuthenticator for BootstrapTokens {
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        let Some((id, token_secret)) = split_token(token) else { return Ok(None) };
        let secrets = GroupVersionResource::new("", "v1", "secrets");
        let found = self
            .lookup
            .get(&secrets, NAMESPACE, &format!("bootstrap-token-{id}"))
            .await
            .map_err(|error| AuthenticationError { message: error.message })?;
        let Some(secret) = found else { return Ok(None) };
        let mut groups = match check(&secret, id, token_secret) {
            Ok(groups) => groups,
            Err(reason) => {
                info!(secret = secret.name(), reason, "bootstrap token refused");
                return Ok(None);
            }
        };
        groups.push(DEFAULT_GROUP.to_owned());
        groups.sort();
        groups.dedup();
        let user = UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() };
        Ok(implicit_audiences(&self.api_audiences, audiences).map(|audiences| Authenticated { user, audiences }))
    }
}
