//! Private and public keys: ECDSA P-256 where we make them, P-384 and RSA too where users bring them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair};

use crate::der::{self, Reader, oid};
use crate::{Error, pem};

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    P256,
    /// ECDSA on P-384 with SHA-384.
    P384,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    Rsa,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    /// Its kind.
    pub algorithm: Algorithm,
    /// The curve point, or the `RSAPublicKey` structure.
    pub raw: Vec<u8>,
}

/// A private key with its public part.
pub struct Key {
    pkcs8: Vec<u8>,
    public: PublicKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.public.algorithm).finish_non_exhaustive()
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self { pkcs8: self.pkcs8.clone(), public: self.public.clone() }
    }
}

impl Key {
    /// A fresh P-256 key (well under a millisecond).
    ///
    /// # Errors
    /// The system's random source failed.
    pub fn generate() -> Result<Self, Error> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| Error::Random)?;
        Self::from_pkcs8(pkcs8.as_ref().to_vec())
    }

    /// The first private key of a PEM text: `PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY`.
    ///
    /// # Errors
    /// There is none, or it is of a kind that is not supported.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        for block in pem::parse(text) {
            match block.label.as_str() {
                "PRIVATE KEY" => return Self::from_pkcs8(block.der),
                "EC PRIVATE KEY" => return Self::from_sec1(&block.der),
                "RSA PRIVATE KEY" => return Self::from_pkcs8(wrap_rsa(&block.der)),
                _ => {}
            }
        }
        Err(Error::Key("data does not contain a valid RSA or ECDSA private key".into()))
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, Error> {
        let curves = [
            (Algorithm::P256, &signature::ECDSA_P256_SHA256_ASN1_SIGNING),
            (Algorithm::P384, &signature::ECDSA_P384_SHA384_ASN1_SIGNING),
        ];
        for (algorithm, curve) in curves {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve, &pkcs8, &SystemRandom::new()) {
                let raw = pair.public_key().as_ref().to_vec();
                return Ok(Self { pkcs8, public: PublicKey { algorithm, raw } });
            }
        }
        match RsaKeyPair::from_pkcs8(&pkcs8) {
            Ok(pair) => {
                let raw = pair.public().as_ref().to_vec();
                Ok(Self { pkcs8, public: PublicKey { algorithm: Algorithm::Rsa, raw } })
            }
            Err(rejected) => Err(Error::Key(format!("not a P-256, P-384 or RSA (2048 bits or more) key: {rejected}"))),
        }
    }

    /// SEC 1: `ECPrivateKey ::= SEQUENCE { 1, OCTET STRING, [0] curve, [1] BIT STRING }`.
    fn from_sec1(sec1: &[u8]) -> Result<Self, Error> {
        let malformed = || Error::Key("malformed EC private key".into());
        let mut fields = Reader::new(Reader::new(sec1).expect(der::SEQUENCE).ok_or_else(malformed)?);
        fields.expect(der::INTEGER).ok_or_else(malformed)?;
        let secret = fields.expect(der::OCTET_STRING).ok_or_else(malformed)?;
        let curve = match secret.len() {
            0..=32 => oid::P256,
            _ => oid::P384,
        };
        let algorithm = der::sequence(&[&der::object_id(oid::EC_PUBLIC_KEY), &der::object_id(curve)]);
        // ring wants the inner structure without the curve, which PKCS #8 names outside.
        let mut parts = vec![der::unsigned(&[1]), der::tlv(der::OCTET_STRING, secret)];
        while let Some((tag, _, whole)) = fields.next() {
            if tag == 0xa1 {
                parts.push(whole.to_vec());
            }
        }
        let inner = der::tlv(der::SEQUENCE, &parts.concat());
        let outer = der::sequence(&[&der::unsigned(&[0]), &algorithm, &der::tlv(der::OCTET_STRING, &inner)]);
        Self::from_pkcs8(outer)
    }

    /// The PKCS #8 bytes.
    pub fn der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// A `PRIVATE KEY` block.
    pub fn to_pem(&self) -> String {
        pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// The public part.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs as certificates want it: ECDSA signatures as ASN.1.
    ///
    /// # Errors
    /// The random source failed or the key is unusable.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let ecdsa = match self.public.algorithm {
            Algorithm::P256 => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            Algorithm::P384 => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            Algorithm::Rsa => return self.sign_rsa(message),
        };
        self.sign_ecdsa(ecdsa, message)
    }

    /// Signs as JOSE wants it: ECDSA signatures as two fixed numbers.
    ///
    /// # Errors
    /// The random source failed or the key is unusable.
    pub fn sign_jose(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let ecdsa = match self.public.algorithm {
            Algorithm::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            Algorithm::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            Algorithm::Rsa => return self.sign_rsa(message),
        };
        self.sign_ecdsa(ecdsa, message)
    }

    fn sign_ecdsa(&self, how: &'static signature::EcdsaSigningAlgorithm, message: &[u8]) -> Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(how, &self.pkcs8, &random).map_err(|_| Error::Sign("unusable EC key"))?;
        let signature = pair.sign(&random, message).map_err(|_| Error::Random)?;
        Ok(signature.as_ref().to_vec())
    }

    fn sign_rsa(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).map_err(|_| Error::Sign("unusable RSA key"))?;
        let mut out = vec![0; pair.public().modulus_len()];
        pair.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut out).map_err(|_| Error::Random)?;
        Ok(out)
    }
}

fn wrap_rsa(pkcs1: &[u8]) -> Vec<u8> {
    let algorithm = der::sequence(&[&der::object_id(oid::RSA), &der::null()]);
    der::sequence(&[&der::unsigned(&[0]), &algorithm, &der::tlv(der::OCTET_STRING, pkcs1)])
}

impl PublicKey {
    /// The `SubjectPublicKeyInfo` structure (PKIX).
    pub fn spki(&self) -> Vec<u8> {
        let algorithm = match self.algorithm {
            Algorithm::P256 => der::sequence(&[&der::object_id(oid::EC_PUBLIC_KEY), &der::object_id(oid::P256)]),
            Algorithm::P384 => der::sequence(&[&der::object_id(oid::EC_PUBLIC_KEY), &der::object_id(oid::P384)]),
            Algorithm::Rsa => der::sequence(&[&der::object_id(oid::RSA), &der::null()]),
        };
        der::sequence(&[&algorithm, &der::bit_string(&self.raw)])
    }

    /// Reads a `SubjectPublicKeyInfo` structure.
    ///
    /// # Errors
    /// It is malformed or of a kind that is not supported.
    pub fn from_spki(spki: &[u8]) -> Result<Self, Error> {
        let malformed = || Error::Key("malformed public key".into());
        let mut fields = Reader::new(Reader::new(spki).expect(der::SEQUENCE).ok_or_else(malformed)?);
        let mut algorithm = Reader::new(fields.expect(der::SEQUENCE).ok_or_else(malformed)?);
        let (_, _, kind) = algorithm.next().ok_or_else(malformed)?;
        let parameter = algorithm.next().map(|(_, _, whole)| whole).unwrap_or_default();
        let bits = fields.expect(der::BIT_STRING).and_then(|b| b.get(1..)).ok_or_else(malformed)?;
        let algorithm = if kind == der::object_id(oid::RSA) {
            Algorithm::Rsa
        } else if parameter == der::object_id(oid::P256) {
            Algorithm::P256
        } else if parameter == der::object_id(oid::P384) {
            Algorithm::P384
        } else {
            return Err(Error::Key("public key is neither RSA nor ECDSA on P-256 or P-384".into()));
        };
        Ok(Self { algorithm, raw: bits.to_vec() })
    }

    /// All public keys of a PEM text; private keys and certificates give theirs, as `--service-account-key-file` takes them.
    ///
    /// # Errors
    /// A key is not supported, or there is none.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, Error> {
        let mut keys = Vec::new();
        for block in pem::parse(text) {
            match block.label.as_str() {
                "PUBLIC KEY" => keys.push(Self::from_spki(&block.der)?),
                "RSA PUBLIC KEY" => keys.push(Self { algorithm: Algorithm::Rsa, raw: block.der }),
                "CERTIFICATE" => keys.push(crate::cert::Info::parse(&block.der)?.public_key()?),
                "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => {
                    keys.push(Key::from_pem(&pem::encode(&block.label, &block.der))?.public);
                }
                _ => {}
            }
        }
        if keys.is_empty() {
            return Err(Error::Key("data does not contain any valid RSA or ECDSA public keys".into()));
        }
        Ok(keys)
    }

    /// A `PUBLIC KEY` block.
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.spki())
    }

    /// The key id that upstream derives: the SHA-256 of the PKIX form in unpadded URL-safe base64.
    pub fn key_id(&self) -> String {
        URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &self.spki()))
    }

    /// The JOSE name of the signature algorithm.
    pub fn jose_algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::P256 => "ES256",
            Algorithm::P384 => "ES384",
            Algorithm::Rsa => "RS256",
        }
    }

    /// Whether a JOSE signature fits.
    pub fn verify_jose(&self, message: &[u8], signature: &[u8]) -> bool {
        let how: &dyn signature::VerificationAlgorithm = match self.algorithm {
            Algorithm::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            Algorithm::P384 => &signature::ECDSA_P384_SHA384_FIXED,
            Algorithm::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        signature::UnparsedPublicKey::new(how, &self.raw).verify(message, signature).is_ok()
    }

    /// The numbers of the key as a JSON Web Key names them: `(kty, [(name, base64url)])`.
    pub fn jwk_members(&self) -> (&'static str, Vec<(&'static str, String)>) {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let curve = match self.algorithm {
            Algorithm::P256 => "P-256",
            Algorithm::P384 => "P-384",
            Algorithm::Rsa => {
                let mut fields = Reader::new(Reader::new(&self.raw).expect(der::SEQUENCE).unwrap_or_default());
                let mut number = || {
                    let bytes = fields.expect(der::INTEGER).unwrap_or_default();
                    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
                    text(&bytes[start..])
                };
                let (n, e) = (number(), number());
                return ("RSA", vec![("n", n), ("e", e)]);
            }
        };
        // An uncompressed point: 4, x, y.
        let (x, y) = self.raw.get(1..).unwrap_or_default().split_at(self.raw.len().saturating_sub(1) / 2);
        ("EC", vec![("crv", curve.to_owned()), ("x", text(x)), ("y", text(y))])
    }
}
