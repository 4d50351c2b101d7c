//! The authenticating front proxy: a trusted client certificate that vouches for the user in its headers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use auth_api::{Authenticated, AuthenticationError, Authenticator, Credentials, UserInfo};

use crate::x509::ClientCertificates;

/// Which headers name the user. Defaults are empty, as upstream's flags.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderNames {
    /// `--requestheader-username-headers`, such as `X-Remote-User`.
    pub user: Vec<String>,
    /// `--requestheader-uid-headers`, such as `X-Remote-Uid`.
    pub uid: Vec<String>,
    /// `--requestheader-group-headers`, such as `X-Remote-Group`.
    pub group: Vec<String>,
    /// `--requestheader-extra-headers-prefix`, such as `X-Remote-Extra-`.
    pub extra_prefix: Vec<String>,
}

impl HeaderNames {
    /// The names that kubeadm sets up and aggregated API servers expect.
    pub fn usual() -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            user: one("X-Remote-User"),
            uid: one("X-Remote-Uid"),
            group: one("X-Remote-Group"),
            extra_prefix: one("X-Remote-Extra-"),
        }
    }

    /// Whether a header is one of these; such headers must not go further than authentication.
    pub fn contains(&self, header: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|n| n.eq_ignore_ascii_case(header));
        named(&self.user)
            || named(&self.uid)
            || named(&self.group)
            || self.extra_prefix.iter().any(|p| without_prefix(header, p).is_some())
    }
}

fn without_prefix<'a>(header: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = header.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Authenticates requests of a front proxy.
pub struct FrontProxy {
    certificates: ClientCertificates,
    allowed_names: Vec<String>,
    headers: HeaderNames,
}

impl FrontProxy {
    /// Takes the proxy authorities' PEM text and the common names that may speak for others (none: every one).
    ///
    /// # Errors
    /// The text holds no usable certificate.
    pub fn new(authorities_pem: &str, allowed_names: Vec<String>, headers: HeaderNames) -> Result<Self, pki::Error> {
        Ok(Self { certificates: ClientCertificates::new(authorities_pem)?, allowed_names, headers })
    }

    fn named_user(&self, headers: &http::HeaderMap) -> Option<UserInfo> {
        let text = |value: &http::HeaderValue| value.to_str().ok().filter(|v| !v.is_empty()).map(str::to_owned);
        let first = |names: &[String]| names.iter().find_map(|n| headers.get(n.as_str()).and_then(text));
        let name = first(&self.headers.user)?;
        let groups = self.headers.group.iter().flat_map(|n| headers.get_all(n.as_str())).filter_map(text).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.headers.extra_prefix {
            for (header, value) in headers {
                if let (Some(key), Ok(value)) = (without_prefix(header.as_str(), prefix), value.to_str()) {
                    extra.entry(unescape(&key.to_ascii_lowercase())).or_default().push(value.to_owned());
                }
            }
        }
        Some(UserInfo { name, uid: first(&self.headers.uid).unwrap_or_default(), groups, extra })
    }
}

/// Decodes %-encoded bytes; a malformed key is kept as it is.
fn unescape(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut bytes = key.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next().unwrap_or(b'!'), bytes.next().unwrap_or(b'!')];
        match std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(decoded) => out.push(decoded),
            None => return key.to_owned(),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

#[async_trait]
impl Authenticator for FrontProxy {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Authenticated>, AuthenticationError> {
        // Without the headers it is a plain certificate, which the next authenticator judges.
        let Some(user) = credentials.headers.and_then(|h| self.named_user(h)) else { return Ok(None) };
        if credentials.peer_certificates.is_empty() {
            return Ok(None);
        }
        let proxy = self.certificates.user(credentials.peer_certificates)?.unwrap_or_default();
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy.name) {
            return Err(AuthenticationError {
                message: format!("x509: subject with cn={} is not in the allowed list", proxy.name),
            });
        }
        Ok(Some(Authenticated { user, audiences: Vec::new() }))
    }
}
