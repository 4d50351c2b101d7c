//! JSON Web Tokens in compact form.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pki::{Key, PublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// Signs claims; the header names the algorithm and upstream's key id.
pub(super) fn sign<T: Serialize>(key: &Key, claims: &T) -> Result<String, pki::Error> {
    let json = |error: serde_json::Error| pki::Error::Key(error.to_string());
    let header = Header { alg: key.public().jose_algorithm().to_owned(), kid: key.public().key_id() };
    let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).map_err(json)?);
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).map_err(json)?);
    let mut token = format!("{header}.{payload}");
    let signature = key.sign_jose(token.as_bytes())?;
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(token)
}

/// A token taken apart, not verified yet.
pub(super) struct Parsed<'a> {
    signed: &'a str,
    header: Header,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Parsed<'a> {
    /// `None` when the text is no token in compact form.
    pub(super) fn new(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        Some(Self {
            signed,
            header: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?,
            payload: URL_SAFE_NO_PAD.decode(payload).ok()?,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// What it says; not to be believed before [`Parsed::verify`].
    pub(super) fn claims<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.payload)
    }

    /// Whether one of the keys signed it. A key id in the token narrows the choice.
    pub(super) fn verify(&self, keys: &[PublicKey]) -> Result<(), String> {
        let candidates: Vec<&PublicKey> =
            keys.iter().filter(|k| self.header.kid.is_empty() || k.key_id() == self.header.kid).collect();
        if candidates.is_empty() {
            return Err("invalid signature, no keys found".into());
        }
        let fits = |key: &&PublicKey| {
            // The algorithm is the key's, never the token's choice.
            key.jose_algorithm() == self.header.alg && key.verify_jose(self.signed.as_bytes(), &self.signature)
        };
        if candidates.iter().any(fits) { Ok(()) } else { Err("invalid signature".into()) }
    }
}
