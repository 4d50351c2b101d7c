//! An issuer's keys: found by discovery, fetched again when a token names one that is not known.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::{HttpTransport, TlsIdentity, Transport};
use parking_lot::Mutex;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use super::config::Issuer;

const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_DOCUMENT: usize = 1024 * 1024;
/// Where systems keep the certificate authorities that they trust, as Go looks for them.
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// One key of a set.
#[derive(Debug, Clone, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default, rename = "use")]
    usage: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Default)]
struct Known {
    keys: Arc<[Jwk]>,
    /// How often they were fetched.
    times: u64,
}

pub(super) struct Keys {
    issuer: String,
    discovery: String,
    ca: Vec<u8>,
    known: Mutex<Known>,
    /// Held by the one that fetches: others with unknown keys wait for what it brings.
    fetching: rt::sync::Mutex<()>,
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).unwrap_or_default()
}

impl Jwk {
    fn verify(&self, algorithm: &str, message: &[u8], signed: &[u8]) -> bool {
        let rsa = |parameters| {
            let key = RsaPublicKeyComponents { n: decode(&self.n), e: decode(&self.e) };
            self.kty == "RSA" && key.verify(parameters, message, signed).is_ok()
        };
        let curve = |name: &str, parameters| {
            let point = [&[4u8][..], &decode(&self.x), &decode(&self.y)].concat();
            self.kty == "EC"
                && self.crv == name
                && UnparsedPublicKey::new(parameters, point).verify(message, signed).is_ok()
        };
        match algorithm {
            "RS256" => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_2048_8192_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_2048_8192_SHA512),
            "ES256" => curve("P-256", &signature::ECDSA_P256_SHA256_FIXED),
            "ES384" => curve("P-384", &signature::ECDSA_P384_SHA384_FIXED),
            _ => false,
        }
    }
}

impl Keys {
    pub fn new(issuer: &Issuer) -> Result<Self, String> {
        let ca = if issuer.ca_pem.is_empty() {
            SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default()
        } else {
            issuer.ca_pem.clone().into_bytes()
        };
        let well_known = || format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
        let discovery = if issuer.discovery_url.is_empty() { well_known() } else { issuer.discovery_url.clone() };
        let keys = Self {
            issuer: issuer.url.clone(),
            discovery,
            ca,
            known: Mutex::default(),
            fetching: rt::sync::Mutex::default(),
        };
        keys.transport(&keys.discovery)?;
        Ok(keys)
    }

    fn transport(&self, url: &str) -> Result<HttpTransport, String> {
        let tls = TlsIdentity { ca_pem: Some(self.ca.clone()), ..TlsIdentity::default() };
        HttpTransport::new(url, &tls, None).map_err(|e| format!("oidc: {e}"))
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let request = http::Request::get("/").header("accept", "application/json").body(client::body(""));
        let request = request.map_err(|e| e.to_string())?;
        let transport = self.transport(url)?;
        let exchange = async {
            let answer = transport.send(request).await.map_err(|e| chain(&e))?;
            let code = answer.status();
            let content = wire::read_all(answer.into_body(), MAX_DOCUMENT).await.map_err(|e| chain(&e))?;
            if !code.is_success() {
                return Err(format!("the server answered {code}"));
            }
            serde_json::from_slice(&content).map_err(|e| e.to_string())
        };
        let answer = rt::time::timeout(FETCH_TIMEOUT, exchange).await.unwrap_or_else(|_| Err("timed out".into()));
        answer.map_err(|e| format!("oidc: get {url}: {e}"))
    }

    async fn fetch(&self) -> Result<Vec<Jwk>, String> {
        let found: Discovery = self.get(&self.discovery).await?;
        if found.issuer != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {:?}",
                self.issuer, found.issuer
            ));
        }
        let set: JwkSet = self.get(&found.jwks_uri).await?;
        // Keys of kinds that nobody here knows are passed over.
        Ok(set.keys.into_iter().filter_map(|k| serde_json::from_value(k).ok()).collect())
    }

    fn known(&self) -> (Arc<[Jwk]>, u64) {
        let known = self.known.lock();
        (known.keys.clone(), known.times)
    }

    /// Whether one of the issuer's keys signed the message. A key that is not known is looked for at the issuer, as upstream
    /// does, by one request at a time.
    pub async fn verify(&self, algorithm: &str, kid: &str, message: &[u8], signed: &[u8]) -> Result<(), String> {
        let signed_by = |keys: &[Jwk]| {
            let fits = |k: &&Jwk| (kid.is_empty() || k.kid == kid) && k.usage != "enc";
            keys.iter().filter(fits).any(|k| k.verify(algorithm, message, signed))
        };
        let (keys, before) = self.known();
        if signed_by(&keys) {
            return Ok(());
        }
        if !keys.iter().any(|k| k.kid == kid) {
            let _one = self.fetching.lock().await;
            if self.known().1 == before {
                let keys = self.fetch().await?.into();
                *self.known.lock() = Known { keys, times: before + 1 };
            }
            if signed_by(&self.known().0) {
                return Ok(());
            }
        }
        Err("oidc: verify token: failed to verify signature: failed to verify id token signature".into())
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
