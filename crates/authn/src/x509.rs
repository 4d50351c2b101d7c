//! Client certificates: the common name is the user, organizations are its groups.

use async_trait::async_trait;
use auth_api::{Authenticated, AuthenticationError, Authenticator, Credentials, UserInfo};
use pki::tls::ClientChainVerifier;

use crate::CREDENTIAL_ID;
use crate::cache::{Cache, digest};

/// Verified chains kept, so that a connection pays for its signatures once.
const CACHED_CHAINS: usize = 4096;
/// Seconds that a verified chain is believed.
const CACHE_SECONDS: i64 = 600;

/// Authenticates TLS client certificates that one of the authorities signed.
pub struct ClientCertificates {
    verifier: ClientChainVerifier,
    verified: Cache<[u8; 32], UserInfo>,
}

impl ClientCertificates {
    /// Takes the PEM text of the authorities (`--client-ca-file`).
    ///
    /// # Errors
    /// It holds no usable certificate.
    pub fn new(authorities_pem: &str) -> Result<Self, pki::Error> {
        let verifier = ClientChainVerifier::new(&pki::pem::certificates(authorities_pem))?;
        Ok(Self { verifier, verified: Cache::new(CACHED_CHAINS) })
    }

    /// The certificate's user, when the chain holds.
    ///
    /// # Errors
    /// The chain does not hold.
    pub fn user(&self, chain: &[Vec<u8>]) -> Result<Option<UserInfo>, AuthenticationError> {
        let Some(leaf) = chain.first() else { return Ok(None) };
        let key = digest(&chain.iter().map(Vec::as_slice).collect::<Vec<_>>());
        if let Some(user) = self.verified.get(&key) {
            return Ok(Some(user));
        }
        let refuse = |error: pki::Error| {
            let cause = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
            AuthenticationError { message: format!("verifying client certificate failed: {error}{cause}") }
        };
        self.verifier.verify(chain).map_err(refuse)?;
        let info = pki::Info::parse(leaf).map_err(refuse)?;
        if info.subject.common_name.is_empty() {
            return Ok(None);
        }
        let fingerprint = ring::digest::digest(&ring::digest::SHA256, leaf);
        let hex: String = fingerprint.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let user = UserInfo {
            name: info.subject.common_name,
            uid: info.subject.uid,
            groups: info.subject.organizations,
            extra: [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={hex}")])].into(),
        };
        self.verified.put(key, user.clone(), info.not_after.min(rt::time::unix_seconds() + CACHE_SECONDS));
        Ok(Some(user))
    }
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Authenticated>, AuthenticationError> {
        let user = self.user(credentials.peer_certificates)?;
        Ok(user.map(|user| Authenticated { user, audiences: Vec::new() }))
    }
}
