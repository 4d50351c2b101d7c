//! Authentication by other issuers and webhooks, and the authorizers, as flags and their files say.

use std::path::PathBuf;
use std::sync::Arc;

use authn::jwt::JwtSet;
use authn::jwt::config::{self as jwt_config, ClaimRule, From, Issuer, Jwt};
use authn::{Anonymous, TokenAuthenticator, TokenWebhook};
use authz::{Abac, Authorizers, Member, Mode, Webhook, WebhookOptions};
use clap::Args;
use futures::FutureExt;
use rt::Shutdown;

use crate::assemble::{RunError, read_text};
use crate::flags::{Flags, duration};

const AUTHENTICATION: &str = "--authentication-config";
const AUTHORIZATION: &str = "--authorization-config";

/// Flags of authentication and authorization beside the oldest ones: upstream's names and defaults.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Authentication and authorization flags")]
pub struct AuthFlags {
    /// File with issuers of tokens and with who may come without proof.
    #[arg(long)]
    pub authentication_config: Option<PathBuf>,
    /// URL of the OpenID issuer; HTTPS only.
    #[arg(long)]
    pub oidc_issuer_url: Option<String>,
    /// The audience that its tokens must have.
    #[arg(long)]
    pub oidc_client_id: Option<String>,
    /// CA of the issuer; the system's when not given.
    #[arg(long)]
    pub oidc_ca_file: Option<PathBuf>,
    /// Claim with the user's name.
    #[arg(long, default_value = "sub")]
    pub oidc_username_claim: String,
    /// Put before names; `-` for nothing. By default the issuer's URL and `#`, unless the claim is `email`.
    #[arg(long)]
    pub oidc_username_prefix: Option<String>,
    /// Claim with groups.
    #[arg(long, default_value = "")]
    pub oidc_groups_claim: String,
    /// Put before groups.
    #[arg(long, default_value = "")]
    pub oidc_groups_prefix: String,
    /// Algorithms that the issuer may sign with.
    #[arg(long, value_delimiter = ',', default_value = "RS256")]
    pub oidc_signing_algs: Vec<String>,
    /// Claims that must have a value: `key=value`.
    #[arg(long, value_delimiter = ',')]
    pub oidc_required_claim: Vec<String>,
    /// kubeconfig file of the token webhook.
    #[arg(long)]
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// API version of its TokenReviews.
    #[arg(long, default_value = "v1beta1")]
    pub authentication_token_webhook_version: String,
    /// How long its answers are believed.
    #[arg(long, default_value = "2m0s")]
    pub authentication_token_webhook_cache_ttl: String,
    /// File with the authorizers.
    #[arg(long)]
    pub authorization_config: Option<PathBuf>,
    /// File with policies for ABAC.
    #[arg(long)]
    pub authorization_policy_file: Option<PathBuf>,
    /// kubeconfig file of the authorization webhook.
    #[arg(long)]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// API version of its SubjectAccessReviews.
    #[arg(long, default_value = "v1beta1")]
    pub authorization_webhook_version: String,
    /// How long it is believed that something is allowed.
    #[arg(long, default_value = "5m0s")]
    pub authorization_webhook_cache_authorized_ttl: String,
    /// How long it is believed that something is not.
    #[arg(long, default_value = "30s")]
    pub authorization_webhook_cache_unauthorized_ttl: String,
}

impl AuthFlags {
    /// What contradicts, in upstream's words.
    pub(crate) fn problems(&self, modes: &[String]) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.oidc_issuer_url.is_some() != self.oidc_client_id.is_some() {
            wrong.push(
                "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
                    .to_owned(),
            );
        }
        if self.oidc_issuer_url.is_some() && self.authentication_config.is_some() {
            wrong.push("authentication-config file and oidc-* flags are mutually exclusive".to_owned());
        }
        if let Some(url) = self.oidc_issuer_url.as_ref().filter(|u| !u.starts_with("https://")) {
            wrong.push(format!("issuer.url: Invalid value: {url:?}: URL scheme must be https"));
        }
        for algorithm in &self.oidc_signing_algs {
            if !jwt_config::ALGORITHMS.contains(&algorithm.as_str()) {
                wrong.push(format!("oidc: unsupported signing alg: {algorithm:?}"));
            }
        }
        let has = |mode: &str| modes.iter().any(|m| m == mode);
        if self.authorization_config.is_some()
            && (!modes.is_empty() || self.authorization_webhook_config_file.is_some())
        {
            wrong.push(
                "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags \
                 are defined"
                    .to_owned(),
            );
        }
        for (mode, flag, given) in [
            ("ABAC", "authorization-policy-file", self.authorization_policy_file.is_some()),
            ("Webhook", "authorization-webhook-config-file", self.authorization_webhook_config_file.is_some()),
        ] {
            if has(mode) && !given {
                wrong.push(format!("authorization-mode {mode}'s authorization {flag} not passed"));
            }
            if !has(mode) && given && self.authorization_config.is_none() {
                wrong.push(format!("cannot specify --{flag} without mode {mode}"));
            }
        }
        for (i, mode) in modes.iter().enumerate() {
            if modes[..i].contains(mode) {
                wrong.push(format!("authorization-mode {modes:?} has mode specified more than once"));
            }
        }
        wrong
    }

    fn oidc(&self) -> Result<Option<Jwt>, RunError> {
        let (Some(url), Some(client)) = (&self.oidc_issuer_url, &self.oidc_client_id) else { return Ok(None) };
        let prefix = match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(given) => given.to_owned(),
            None if self.oidc_username_claim == "email" => String::new(),
            None => format!("{url}#"),
        };
        let groups = match self.oidc_groups_claim.as_str() {
            "" => From::Nothing,
            name => From::Claim { name: name.to_owned(), prefix: self.oidc_groups_prefix.clone() },
        };
        let required = self.oidc_required_claim.iter().map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            ClaimRule::Required { name: name.to_owned(), value: value.to_owned() }
        });
        let ca_pem = match &self.oidc_ca_file {
            Some(path) => read_text("--oidc-ca-file", path)?,
            None => String::new(),
        };
        Ok(Some(Jwt {
            issuer: Issuer {
                url: url.clone(),
                ca_pem,
                audiences: vec![client.clone()],
                algorithms: self.oidc_signing_algs.clone(),
                ..Issuer::default()
            },
            claim_rules: required.collect(),
            username: From::Claim { name: self.oidc_username_claim.clone(), prefix },
            groups,
            ..Jwt::default()
        }))
    }
}

/// Authenticators of tokens, and what a file says about who may come without proof.
pub(crate) struct Issuers {
    pub tokens: Vec<Arc<dyn TokenAuthenticator>>,
    pub anonymous: Option<Anonymous>,
}

/// What flags and the configuration file say; the file is followed.
pub(crate) fn issuers(flags: &Flags, audiences: &[String], shutdown: &Shutdown) -> Result<Issuers, RunError> {
    let auth = &flags.auth;
    let mut found = Issuers { tokens: Vec::new(), anonymous: None };
    if let Some(jwt) = auth.oidc()? {
        let set = JwtSet::new(vec![jwt], audiences.to_vec()).map_err(RunError::Flags)?;
        found.tokens.push(Arc::new(set));
    }
    if let Some(path) = &auth.authentication_config {
        let wrong = |e: String| RunError::Flags(format!("{AUTHENTICATION}: {e}"));
        let text = read_text(AUTHENTICATION, path)?;
        let file = jwt_config::parse(&text, &flags.service_account_issuer).map_err(wrong)?;
        let set = Arc::new(JwtSet::new(file.jwt, audiences.to_vec()).map_err(wrong)?);
        found.anonymous = file.anonymous;
        found.tokens.push(set.clone());
        let own = flags.service_account_issuer.clone();
        let apply = move |content: Vec<u8>| {
            let outcome = String::from_utf8(content)
                .map_err(|e| e.to_string())
                .and_then(|text| jwt_config::parse(&text, &own))
                .and_then(|file| set.replace(file.jwt));
            async move { outcome }.boxed()
        };
        crate::follow::follow(AUTHENTICATION, path.clone(), text.as_bytes(), shutdown.clone(), Box::new(apply));
    }
    if let Some(path) = &auth.authentication_token_webhook_config_file {
        let ttl = duration(&auth.authentication_token_webhook_cache_ttl).map_err(RunError::Flags)?;
        let version = &auth.authentication_token_webhook_version;
        let webhook = TokenWebhook::new(path, version, ttl, audiences.to_vec())
            .map_err(|e| RunError::Flags(format!("--authentication-token-webhook-config-file: {e}")))?;
        found.tokens.push(Arc::new(webhook));
    }
    Ok(found)
}

/// The authorizers in order.
pub(crate) fn members(flags: &Flags) -> Result<Vec<Member>, RunError> {
    let auth = &flags.auth;
    if let Some(path) = &auth.authorization_config {
        let text = read_text(AUTHORIZATION, path)?;
        return authz::config::parse(&text).map_err(|e| RunError::Flags(format!("{AUTHORIZATION}: {e}")));
    }
    let mut members = Vec::new();
    for mode in flags.modes() {
        members.push(match mode.parse().map_err(RunError::Flags)? {
            Mode::AlwaysAllow => Member::AlwaysAllow,
            Mode::AlwaysDeny => Member::AlwaysDeny,
            Mode::Node => Member::Node,
            Mode::Rbac => Member::Rbac,
            Mode::Abac => {
                let path = auth.authorization_policy_file.clone().unwrap_or_default();
                let text = read_text("--authorization-policy-file", &path)?;
                Member::Abac(Arc::new(Abac::parse(&text).map_err(RunError::Flags)?))
            }
            Mode::Webhook => Member::Webhook(Arc::new(webhook(auth)?)),
        });
    }
    Ok(members)
}

fn webhook(auth: &AuthFlags) -> Result<Webhook, RunError> {
    let path = auth.authorization_webhook_config_file.clone().unwrap_or_default();
    let options = WebhookOptions {
        version: auth.authorization_webhook_version.clone(),
        authorized_ttl: duration(&auth.authorization_webhook_cache_authorized_ttl).map_err(RunError::Flags)?,
        unauthorized_ttl: duration(&auth.authorization_webhook_cache_unauthorized_ttl).map_err(RunError::Flags)?,
        ..WebhookOptions::default()
    };
    Webhook::new(&path, options).map_err(|e| RunError::Flags(format!("--authorization-webhook-config-file: {e}")))
}

/// Follows the authorizers' file.
pub(crate) fn follow_authorizers(flags: &Flags, authorizers: &Arc<Authorizers>, shutdown: &Shutdown) {
    let Some(path) = &flags.auth.authorization_config else { return };
    // It was read a moment ago; should it be gone now, any content is new.
    let known = std::fs::read(path).unwrap_or_default();
    let target = authorizers.clone();
    let apply = move |content: Vec<u8>| {
        let outcome = String::from_utf8(content)
            .map_err(|e| e.to_string())
            .and_then(|text| authz::config::parse(&text))
            .and_then(|members| target.replace(&members));
        async move { outcome }.boxed()
    };
    crate::follow::follow(AUTHORIZATION, path.clone(), &known, shutdown.clone(), Box::new(apply));
}
