//! All authenticators together, in upstream's order.

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Authenticated, AuthenticationError, Authenticator, Credentials, UserInfo, groups, users};

use crate::bearer::{Bearer, TokenAuthenticator};
use crate::{ClientCertificates, FrontProxy};

/// Who may come without proof.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// Nobody.
    #[default]
    No,
    /// Everybody (upstream's default).
    Yes,
    /// Requests to these paths only.
    Paths(Vec<String>),
}

impl Anonymous {
    /// The health endpoints only: what `up`, `server` and `agent` allow.
    pub fn health_only() -> Self {
        Self::Paths(["/livez", "/readyz", "/healthz"].map(str::to_owned).to_vec())
    }

    fn admits(&self, path: &str) -> bool {
        match self {
            Self::No => false,
            Self::Yes => true,
            Self::Paths(paths) => paths.iter().any(|p| p == path),
        }
    }
}

/// What is enabled.
#[derive(Default)]
pub struct Config {
    /// `--requestheader-*`.
    pub front_proxy: Option<FrontProxy>,
    /// `--client-ca-file`.
    pub client_certificates: Option<ClientCertificates>,
    /// Token authenticators in order: token file, service accounts, bootstrap tokens.
    pub tokens: Vec<Arc<dyn TokenAuthenticator>>,
    /// The API server's own audiences (`--api-audiences`, else the issuer).
    pub api_audiences: Vec<String>,
    /// Who may come without proof.
    pub anonymous: Anonymous,
}

impl Config {
    /// Puts the chain together.
    pub fn build(self) -> Union {
        let mut chain: Vec<Box<dyn Authenticator>> = Vec::new();
        if let Some(front_proxy) = self.front_proxy {
            chain.push(Box::new(front_proxy));
        }
        if let Some(certificates) = self.client_certificates {
            chain.push(Box::new(certificates));
        }
        let bearer = Bearer::new(self.tokens, self.api_audiences);
        Union { chain, bearer, anonymous: self.anonymous }
    }
}

/// The whole chain.
pub struct Union {
    chain: Vec<Box<dyn Authenticator>>,
    bearer: Bearer,
    anonymous: Anonymous,
}

/// Everybody but the anonymous user is in `system:authenticated`.
fn with_everyone(mut found: Authenticated) -> Authenticated {
    let known = found.user.groups.iter().any(|g| g == groups::AUTHENTICATED || g == groups::UNAUTHENTICATED);
    if !known && found.user.name != users::ANONYMOUS {
        found.user.groups.push(groups::AUTHENTICATED.to_owned());
    }
    found
}

#[async_trait]
impl Authenticator for Union {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Authenticated>, AuthenticationError> {
        let mut errors = Vec::new();
        let bearer: &dyn Authenticator = &self.bearer;
        for authenticator in self.chain.iter().map(Box::as_ref).chain([bearer]) {
            match authenticator.authenticate(credentials).await {
                Ok(Some(found)) => return Ok(Some(with_everyone(found))),
                Ok(None) => {}
                Err(error) => errors.push(error.message),
            }
        }
        if !errors.is_empty() {
            return Err(AuthenticationError { message: format!("[{}]", errors.join(", ")) });
        }
        Ok(self
            .anonymous
            .admits(credentials.path)
            .then(|| Authenticated { user: UserInfo::anonymous(), audiences: self.bearer.api_audiences.clone() }))
    }

    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        Ok(self.bearer.authenticate_token(token, audiences).await?.map(with_everyone))
    }
}
