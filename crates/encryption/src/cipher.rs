//! The ciphers of upstream's local providers, in upstream's byte layouts.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm, KeyInit};
use crypto_secretbox::XSalsa20Poly1305;
use registry::SealError;
use ring::rand::SecureRandom;

type Aes192Gcm = AesGcm<aes::Aes192, aes::cipher::consts::U12>;

const GCM_NONCE: usize = 12;
const BOX_NONCE: usize = 24;
const BOX_TAG: usize = 16;
const BLOCK: usize = 16;
/// Bytes of a value that choose its key, and of a seed.
pub(crate) const INFO: usize = 32;

fn short() -> SealError {
    SealError::new("the stored data was shorter than the required size")
}

fn wrong() -> SealError {
    SealError::new("cipher: message authentication failed")
}

/// Random bytes from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    let source = ring::rand::SystemRandom::new();
    source.fill(&mut bytes).map_err(|_| SealError::new("unable to read sufficient random bytes"))?;
    Ok(bytes)
}

/// AES-GCM under a key of 16, 24 or 32 bytes: nonce, then ciphertext with tag; the store's key is authenticated.
#[derive(Clone)]
pub(crate) enum Gcm {
    Aes128(Box<Aes128Gcm>),
    Aes192(Box<Aes192Gcm>),
    Aes256(Box<Aes256Gcm>),
}

impl Gcm {
    pub(crate) fn new(key: &[u8]) -> Result<Self, SealError> {
        let size = |_| SealError::new(format!("crypto/aes: invalid key size {}", key.len()));
        match key.len() {
            16 => Ok(Self::Aes128(Box::new(Aes128Gcm::new_from_slice(key).map_err(size)?))),
            24 => Ok(Self::Aes192(Box::new(Aes192Gcm::new_from_slice(key).map_err(size)?))),
            _ => Ok(Self::Aes256(Box::new(Aes256Gcm::new_from_slice(key).map_err(size)?))),
        }
    }

    pub(crate) fn open(&self, context: &[u8], data: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, sealed) = data.split_at_checked(GCM_NONCE).ok_or_else(short)?;
        let payload = Payload { msg: sealed, aad: context };
        match self {
            Self::Aes128(cipher) => cipher.decrypt(nonce.into(), payload),
            Self::Aes192(cipher) => cipher.decrypt(nonce.into(), payload),
            Self::Aes256(cipher) => cipher.decrypt(nonce.into(), payload),
        }
        .map_err(|_| wrong())
    }

    pub(crate) fn seal(&self, context: &[u8], data: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = random::<GCM_NONCE>()?;
        let payload = Payload { msg: data, aad: context };
        let at = (&nonce[..]).into();
        let sealed = match self {
            Self::Aes128(cipher) => cipher.encrypt(at, payload),
            Self::Aes192(cipher) => cipher.encrypt(at, payload),
            Self::Aes256(cipher) => cipher.encrypt(at, payload),
        };
        let sealed = sealed.map_err(|_| SealError::new("value is too long for AES-GCM"))?;
        Ok([&nonce[..], &sealed].concat())
    }
}

/// AES-CBC with PKCS#7 padding: initialization vector, then ciphertext. Nothing is authenticated, as upstream.
#[derive(Clone)]
pub(crate) struct Cbc(Vec<u8>);

impl Cbc {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(key.to_vec())
    }

    pub(crate) fn open(&self, data: &[u8]) -> Result<Vec<u8>, SealError> {
        let (iv, sealed) = data.split_at_checked(BLOCK).ok_or_else(short)?;
        if sealed.len() % BLOCK != 0 {
            return Err(SealError::new("the stored data is not a multiple of the block size"));
        }
        let size = |_| SealError::new("invalid key size");
        let plain = match self.0.len() {
            16 => cbc::Decryptor::<aes::Aes128>::new_from_slices(&self.0, iv)
                .map_err(size)?
                .decrypt_padded_vec_mut::<Pkcs7>(sealed),
            24 => cbc::Decryptor::<aes::Aes192>::new_from_slices(&self.0, iv)
                .map_err(size)?
                .decrypt_padded_vec_mut::<Pkcs7>(sealed),
            _ => cbc::Decryptor::<aes::Aes256>::new_from_slices(&self.0, iv)
                .map_err(size)?
                .decrypt_padded_vec_mut::<Pkcs7>(sealed),
        };
        plain.map_err(|_| SealError::new("invalid padding on input"))
    }

    pub(crate) fn seal(&self, data: &[u8]) -> Result<Vec<u8>, SealError> {
        let iv = random::<BLOCK>()?;
        let size = |_| SealError::new("invalid key size");
        let sealed = match self.0.len() {
            16 => cbc::Encryptor::<aes::Aes128>::new_from_slices(&self.0, &iv)
                .map_err(size)?
                .encrypt_padded_vec_mut::<Pkcs7>(data),
            24 => cbc::Encryptor::<aes::Aes192>::new_from_slices(&self.0, &iv)
                .map_err(size)?
                .encrypt_padded_vec_mut::<Pkcs7>(data),
            _ => cbc::Encryptor::<aes::Aes256>::new_from_slices(&self.0, &iv)
                .map_err(size)?
                .encrypt_padded_vec_mut::<Pkcs7>(data),
        };
        Ok([&iv[..], &sealed].concat())
    }
}

/// NaCl's secret box: nonce, tag, ciphertext.
#[derive(Clone)]
pub(crate) struct SecretBox(XSalsa20Poly1305);

impl SecretBox {
    pub(crate) fn new(key: &[u8]) -> Result<Self, SealError> {
        let cipher = XSalsa20Poly1305::new_from_slice(key).map_err(|_| SealError::new("invalid key size"))?;
        Ok(Self(cipher))
    }

    pub(crate) fn open(&self, data: &[u8]) -> Result<Vec<u8>, SealError> {
        if data.len() < BOX_NONCE + BOX_TAG {
            return Err(short());
        }
        let (nonce, sealed) = data.split_at(BOX_NONCE);
        self.0.decrypt(nonce.into(), sealed).map_err(|_| wrong())
    }

    pub(crate) fn seal(&self, data: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce = random::<BOX_NONCE>()?;
        let at = (&nonce[..]).into();
        let sealed = self.0.encrypt(at, data).map_err(|_| SealError::new("value is too long for a secret box"))?;
        Ok([&nonce[..], &sealed].concat())
    }
}

/// AES-GCM under keys derived from a seed (HKDF-SHA-256, expansion only), one for each value: 32 bytes that choose the key, then as
/// [`Gcm`].
pub(crate) struct Seeded(ring::hkdf::Prk);

struct Length;

impl ring::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        INFO
    }
}

impl Seeded {
    pub(crate) fn new(seed: &[u8]) -> Result<Self, SealError> {
        if seed.len() < INFO {
            return Err(SealError::new(format!("invalid seed length {} used for key generation", seed.len())));
        }
        Ok(Self(ring::hkdf::Prk::new_less_safe(ring::hkdf::HKDF_SHA256, seed)))
    }

    fn derive(&self, info: &[u8]) -> Result<Gcm, SealError> {
        let mut key = [0; INFO];
        let expanded = self.0.expand(&[info], Length).and_then(|okm| okm.fill(&mut key));
        expanded.map_err(|_| SealError::new("failed to KDF expand seed with info"))?;
        Gcm::new(&key)
    }

    pub(crate) fn open(&self, context: &[u8], data: &[u8]) -> Result<Vec<u8>, SealError> {
        let (info, sealed) = data.split_at_checked(INFO).ok_or_else(short)?;
        self.derive(info)?.open(context, sealed)
    }

    pub(crate) fn seal(&self, context: &[u8], data: &[u8]) -> Result<Vec<u8>, SealError> {
        let info = random::<INFO>()?;
        let sealed = self.derive(&info)?.seal(context, data)?;
        Ok([&info[..], &sealed].concat())
    }
}
