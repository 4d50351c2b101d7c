//! Who asks, and whether they may: client certificates, bearer tokens through TokenReview, SubjectAccessReview.

use std::time::Duration;

use api::k8s::authentication::v1::{TokenReview, TokenReviewSpec};
use api::k8s::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use pki::tls::ClientChainVerifier;
use rt::HashMap;
use rt::time::Instant;
use wire::ConnInfo;

use crate::shared::Shared;

const KEEP_ALLOWED: Duration = Duration::from_secs(300);
const KEEP_DENIED: Duration = Duration::from_secs(30);
const KEEP_TOKEN: Duration = Duration::from_secs(120);
const MAX_KEPT: usize = 4096;

/// An authenticated user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct User {
    /// Name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Unique id.
    pub uid: String,
}

type Decision = (bool, Instant);

/// The decisions made so far, for as long as upstream's kubelet keeps them.
pub struct Auth {
    certificates: Option<ClientChainVerifier>,
    chains: Mutex<HashMap<Vec<Vec<u8>>, (User, Instant)>>,
    tokens: Mutex<HashMap<String, (Option<User>, Instant)>>,
    decisions: Mutex<HashMap<(User, String, String), Decision>>,
}

/// A refusal: status and text.
pub type Refusal = (StatusCode, String);

impl Auth {
    /// Believes client certificates that one of these authorities (PEM; empty for none) signed.
    ///
    /// # Errors
    /// The text holds no usable certificate.
    pub fn new(client_ca: &[u8]) -> Result<Self, pki::Error> {
        let certificates = match client_ca {
            [] => None,
            pem => Some(ClientChainVerifier::new(&pki::pem::certificates(&String::from_utf8_lossy(pem)))?),
        };
        Ok(Self { certificates, chains: Mutex::default(), tokens: Mutex::default(), decisions: Mutex::default() })
    }

    /// The user of a certificate chain.
    ///
    /// # Errors
    /// 401 for a chain that does not hold: a stranger's certificate is no anonymous request.
    fn user_of_chain(&self, chain: &[Vec<u8>]) -> Result<Option<User>, Refusal> {
        let (Some(verifier), Some(leaf)) = (&self.certificates, chain.first()) else { return Ok(None) };
        let known = self.chains.lock().get(chain).filter(|(_, at)| at.elapsed() < KEEP_TOKEN).cloned();
        if let Some((user, _)) = known {
            return Ok(Some(user));
        }
        if let Err(error) = verifier.verify(chain) {
            tracing::debug!(error = %error, "a client certificate does not hold");
            return Err((StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()));
        }
        let user = from_certificate(leaf);
        if let Some(user) = &user {
            let mut chains = self.chains.lock();
            if chains.len() >= MAX_KEPT {
                chains.clear();
            }
            chains.insert(chain.to_vec(), (user.clone(), Instant::now()));
        }
        Ok(user)
    }

    /// Authenticates and authorizes a request.
    ///
    /// # Errors
    /// 401 or 403 with upstream's words.
    pub async fn check(
        &self,
        shared: &Shared,
        method: &Method,
        path: &str,
        bearer: Option<&str>,
        connection: &ConnInfo,
    ) -> Result<User, Refusal> {
        let user = self.user(shared, bearer, connection).await?;
        if !shared.config.server.auth.webhook_authorization {
            return Ok(user);
        }
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "get",
        };
        // The finer permission first, then the one that always covered everything.
        let parts = subresources(path);
        for part in &parts {
            if self.allowed(shared, &user, verb, part).await? {
                return Ok(user);
            }
        }
        Err((
            StatusCode::FORBIDDEN,
            format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
                user.name,
                parts.join(" ")
            ),
        ))
    }

    async fn user(&self, shared: &Shared, bearer: Option<&str>, connection: &ConnInfo) -> Result<User, Refusal> {
        if let Some(user) = self.user_of_chain(&connection.peer_certificates)? {
            return Ok(user);
        }
        let auth = &shared.config.server.auth;
        let unauthorized = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        if let Some(token) = bearer {
            if !auth.webhook_authentication {
                return Err(unauthorized());
            }
            return self.user_of_token(shared, token).await?.ok_or_else(unauthorized);
        }
        if auth.anonymous {
            return Ok(User {
                name: "system:anonymous".to_owned(),
                groups: vec!["system:unauthenticated".to_owned()],
                uid: String::new(),
            });
        }
        Err(unauthorized())
    }

    async fn user_of_token(&self, shared: &Shared, token: &str) -> Result<Option<User>, Refusal> {
        let known = self.tokens.lock().get(token).filter(|(_, at)| at.elapsed() < KEEP_TOKEN).cloned();
        if let Some((user, _)) = known {
            return Ok(user);
        }
        let Some(client) = &shared.client else { return Ok(None) };
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let answer = client.create(&review).await.map_err(|e| failed(&e))?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|info| User {
            name: info.username.unwrap_or_default(),
            groups: info.groups.unwrap_or_default(),
            uid: info.uid.unwrap_or_default(),
        });
        let mut tokens = self.tokens.lock();
        if tokens.len() >= MAX_KEPT {
            tokens.clear();
        }
        tokens.insert(token.to_owned(), (user.clone(), Instant::now()));
        Ok(user)
    }

    async fn allowed(&self, shared: &Shared, user: &User, verb: &str, subresource: &str) -> Result<bool, Refusal> {
        let key = (user.clone(), verb.to_owned(), subresource.to_owned());
        let fresh = |(allowed, at): &&Decision| at.elapsed() < if *allowed { KEEP_ALLOWED } else { KEEP_DENIED };
        if let Some((allowed, _)) = self.decisions.lock().get(&key).filter(fresh) {
            return Ok(*allowed);
        }
        let Some(client) = &shared.client else { return Ok(false) };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                uid: Some(user.uid.clone()).filter(|u| !u.is_empty()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    group: Some(String::new()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(shared.config.node_name.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = client.create(&review).await.map_err(|e| failed(&e))?;
        let allowed = answer.status.is_some_and(|s| s.allowed);
        let mut decisions = self.decisions.lock();
        if decisions.len() >= MAX_KEPT {
            decisions.clear();
        }
        decisions.insert(key, (allowed, Instant::now()));
        Ok(allowed)
    }
}

fn failed(error: &client::Error) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("Authorization error: {}", error.chain()))
}

/// Subresources of `nodes` that cover a path, the finest first.
fn subresources(path: &str) -> Vec<&'static str> {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => vec!["stats"],
        "metrics" => vec!["metrics"],
        "logs" => vec!["log"],
        "checkpoint" => vec!["checkpoint"],
        "healthz" => vec!["healthz", "proxy"],
        "configz" => vec!["configz", "proxy"],
        "pods" | "runningpods" => vec!["pods", "proxy"],
        _ => vec!["proxy"],
    }
}

/// Name and groups of a verified client certificate: its common name and organizations.
fn from_certificate(der: &[u8]) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
    groups.push("system:authenticated".to_owned());
    Some(User { name, groups, uid: String::new() })
}
