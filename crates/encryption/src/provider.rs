//! A resource's providers in order: the first one seals, each may open what begins with its prefix.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use registry::{Opened, SealError, Transformer};

use crate::cipher::{Cbc, Gcm, SecretBox};
use crate::config::{ConfigError, Key, Provider};
use crate::kms::Kms;

/// What every sealed value begins with.
const ANY: &[u8] = b"k8s:enc:";

#[derive(Clone)]
enum Kind {
    Identity,
    Gcm(Gcm),
    Cbc(Cbc),
    SecretBox(SecretBox),
    Kms(Arc<Kms>),
}

/// A provider, or one key of a provider with several, with the prefix of what it seals.
#[derive(Clone)]
pub(crate) struct Prefixed {
    prefix: String,
    kind: Kind,
}

impl Prefixed {
    pub(crate) fn kms(name: &str, service: Arc<Kms>) -> Self {
        Self { prefix: format!("k8s:enc:kms:v2:{name}:"), kind: Kind::Kms(service) }
    }

    /// Those that need no service, one for each key.
    pub(crate) fn local(provider: &Provider) -> Result<Vec<Self>, ConfigError> {
        let each = |name: &str, keys: &[Key], make: &dyn Fn(&[u8]) -> Result<Kind, SealError>| {
            keys.iter()
                .map(|key| {
                    let kind = make(&key.secret).map_err(ConfigError::Cipher)?;
                    Ok(Self { prefix: format!("k8s:enc:{name}:v1:{}:", key.name), kind })
                })
                .collect()
        };
        match provider {
            Provider::Identity => Ok(vec![Self { prefix: String::new(), kind: Kind::Identity }]),
            Provider::AesGcm(keys) => each("aesgcm", keys, &|key| Gcm::new(key).map(Kind::Gcm)),
            Provider::AesCbc(keys) => each("aescbc", keys, &|key| Ok(Kind::Cbc(Cbc::new(key)))),
            Provider::Secretbox(keys) => each("secretbox", keys, &|key| SecretBox::new(key).map(Kind::SecretBox)),
            Provider::Kms(_) => Ok(Vec::new()),
        }
    }

    async fn open(&self, key: &[u8], data: &[u8]) -> Result<(Vec<u8>, bool), SealError> {
        match &self.kind {
            Kind::Identity if data.starts_with(ANY) => {
                Err(SealError::new("identity transformer tried to read encrypted data"))
            }
            Kind::Identity => Ok((data.to_vec(), false)),
            Kind::Gcm(cipher) => Ok((cipher.open(key, data)?, false)),
            Kind::Cbc(cipher) => Ok((cipher.open(data)?, false)),
            Kind::SecretBox(cipher) => Ok((cipher.open(data)?, false)),
            Kind::Kms(service) => service.open(key, data).await,
        }
    }
}

/// The providers of a resource.
pub(crate) struct Providers(Vec<Prefixed>);

impl Providers {
    pub(crate) fn new(list: Vec<Prefixed>) -> Self {
        Self(list)
    }
}

#[async_trait]
impl Transformer for Providers {
    async fn open(&self, key: &[u8], value: Bytes) -> Result<Opened, SealError> {
        let mut wrong = Vec::new();
        for (i, provider) in self.0.iter().enumerate() {
            let Some(data) = value.strip_prefix(provider.prefix.as_bytes()) else { continue };
            match provider.open(key, data).await {
                Ok((plain, stale)) => return Ok(Opened { value: plain.into(), stale: stale || i != 0 }),
                // One key's failure says nothing about the next: names of keys may be used again.
                Err(error) if !provider.prefix.is_empty() => wrong.push(error.message),
                Err(_) => {}
            }
        }
        match wrong.len() {
            0 => Err(SealError::new("no matching prefix found")),
            1 => Err(SealError::new(wrong.remove(0))),
            _ => Err(SealError::new(format!("[{}]", wrong.join(", ")))),
        }
    }

    async fn seal(&self, key: &[u8], value: Bytes) -> Result<Bytes, SealError> {
        let Some(first) = self.0.first() else { return Ok(value) };
        let sealed = match &first.kind {
            Kind::Identity => return Ok(value),
            Kind::Gcm(cipher) => cipher.seal(key, &value)?,
            Kind::Cbc(cipher) => cipher.seal(&value)?,
            Kind::SecretBox(cipher) => cipher.seal(&value)?,
            Kind::Kms(service) => service.seal(key, &value)?,
        };
        Ok([first.prefix.as_bytes(), &sealed].concat().into())
    }
}
