//! Certificates: what to put in them, signing them, and reading them.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::der::{self, oid};
use crate::{Algorithm, Error, Key, PublicKey, pem, random};

/// One year, the life of leaf certificates.
pub const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// The life of certificate authorities.
pub const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far the start of a certificate's life lies back, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// Whom a certificate is for, as Kubernetes reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// User name.
    pub common_name: String,
    /// Groups.
    pub organizations: Vec<String>,
    /// The user's uid, may be empty.
    pub uid: String,
}

impl Subject {
    /// A user in groups.
    pub fn new(common_name: &str, organizations: &[&str]) -> Self {
        let organizations = organizations.iter().map(|o| (*o).to_owned()).collect();
        Self { common_name: common_name.to_owned(), organizations, uid: String::new() }
    }

    /// The encoded name; organizations come first, as Go writes them.
    pub(crate) fn name(&self) -> Vec<u8> {
        let attribute = |id: &[u64], value: &str| {
            der::set(&[&der::sequence(&[&der::object_id(id), &der::tlv(0x0c, value.as_bytes())])])
        };
        let mut parts: Vec<Vec<u8>> = self.organizations.iter().map(|o| attribute(oid::ORGANIZATION, o)).collect();
        if !self.common_name.is_empty() {
            parts.push(attribute(oid::COMMON_NAME, &self.common_name));
        }
        if !self.uid.is_empty() {
            parts.push(attribute(oid::USER_UID, &self.uid));
        }
        der::tlv(der::SEQUENCE, &parts.concat())
    }
}

/// A name that a server answers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum San {
    /// A DNS name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// What a certificate may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Signing other certificates.
    pub ca: bool,
    /// TLS servers.
    pub server: bool,
    /// TLS clients.
    pub client: bool,
    /// Whether the key usage says key encipherment too (RSA servers).
    pub key_encipherment: bool,
}

impl Usage {
    /// An authority.
    pub const CA: Usage = Usage { ca: true, server: false, client: false, key_encipherment: true };
    /// A server.
    pub const SERVER: Usage = Usage { ca: false, server: true, client: false, key_encipherment: true };
    /// A client.
    pub const CLIENT: Usage = Usage { ca: false, server: false, client: true, key_encipherment: true };
    /// Both, as etcd's members need.
    pub const BOTH: Usage = Usage { ca: false, server: true, client: true, key_encipherment: true };
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate in DER.
    pub cert: Vec<u8>,
    /// Its private key.
    pub key: Key,
}

impl Pair {
    /// The certificate as PEM.
    pub fn cert_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.cert)
    }

    /// The key as PEM.
    pub fn key_pem(&self) -> String {
        self.key.to_pem()
    }

    /// A self-signed authority.
    ///
    /// # Errors
    /// The random source failed.
    pub fn new_ca(common_name: &str) -> Result<Self, Error> {
        let key = Key::generate()?;
        let name = Subject::new(common_name, &[]).name();
        let spki = key.public().spki();
        let body = Body { issuer: &name, subject: &name, spki: &spki, issuer_spki: &spki, sans: &[], usage: Usage::CA };
        let cert = body.sign(&key, rt::time::now(), CA_LIFE)?;
        Ok(Self { cert, key })
    }

    /// Issues a leaf with a fresh key.
    ///
    /// # Errors
    /// The random source failed, or this authority's certificate is unreadable.
    pub fn issue(&self, subject: &Subject, sans: &[San], usage: Usage, life: Duration) -> Result<Pair, Error> {
        let key = Key::generate()?;
        let cert = self.certify(&subject.name(), &key.public().spki(), sans, usage, life)?;
        Ok(Pair { cert, key })
    }

    /// Signs a certificate for somebody's public key; `subject` is an encoded name.
    ///
    /// # Errors
    /// The random source failed, or this authority's certificate is unreadable.
    pub fn certify(
        &self,
        subject: &[u8],
        spki: &[u8],
        sans: &[San],
        usage: Usage,
        life: Duration,
    ) -> Result<Vec<u8>, Error> {
        let info = Info::parse(&self.cert)?;
        let issuer_spki = self.key.public().spki();
        let body = Body { issuer: &info.subject_der, subject, spki, issuer_spki: &issuer_spki, sans, usage };
        body.sign(&self.key, rt::time::now(), life)
    }
}

struct Body<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    spki: &'a [u8],
    issuer_spki: &'a [u8],
    sans: &'a [San],
    usage: Usage,
}

/// The algorithm identifier of a key's signatures in certificates.
pub(crate) fn signature_algorithm(key: &Key) -> Vec<u8> {
    match key.public().algorithm {
        Algorithm::P256 => der::sequence(&[&der::object_id(oid::ECDSA_SHA256)]),
        Algorithm::P384 => der::sequence(&[&der::object_id(oid::ECDSA_SHA384)]),
        Algorithm::Rsa => der::sequence(&[&der::object_id(oid::RSA_SHA256), &der::null()]),
    }
}

fn key_id(spki: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, spki).as_ref()[..20].to_vec()
}

fn extension(id: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::boolean_true() } else { Vec::new() };
    der::sequence(&[&der::object_id(id), &critical, &der::tlv(der::OCTET_STRING, value)])
}

/// The subject alternative names' value.
pub(crate) fn alt_names(sans: &[San]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = sans
        .iter()
        .map(|san| match san {
            San::Dns(name) => der::tlv(0x82, name.as_bytes()),
            San::Ip(IpAddr::V4(ip)) => der::tlv(0x87, &ip.octets()),
            San::Ip(IpAddr::V6(ip)) => der::tlv(0x87, &ip.octets()),
        })
        .collect();
    der::tlv(der::SEQUENCE, &parts.concat())
}

impl Body<'_> {
    fn extensions(&self) -> Vec<u8> {
        let usage = self.usage;
        // Bits from the left: digitalSignature, -, keyEncipherment, -, -, keyCertSign.
        let bits = 0x80 | if usage.key_encipherment { 0x20 } else { 0 } | if usage.ca { 0x04 } else { 0 };
        let unused = u8::try_from(u8::trailing_zeros(bits)).unwrap_or(0);
        let constraints = if usage.ca { der::sequence(&[&der::boolean_true()]) } else { der::sequence(&[]) };
        let mut list = vec![extension(oid::KEY_USAGE, true, &der::tlv(der::BIT_STRING, &[unused, bits]))];
        let purposes: Vec<u8> = [(usage.server, oid::SERVER_AUTH), (usage.client, oid::CLIENT_AUTH)]
            .iter()
            .filter(|(wanted, _)| *wanted)
            .flat_map(|(_, id)| der::object_id(id))
            .collect();
        if !purposes.is_empty() {
            list.push(extension(oid::EXT_KEY_USAGE, false, &der::tlv(der::SEQUENCE, &purposes)));
        }
        list.push(extension(oid::BASIC_CONSTRAINTS, true, &constraints));
        if usage.ca {
            list.push(extension(oid::SUBJECT_KEY_ID, false, &der::tlv(der::OCTET_STRING, &key_id(self.spki))));
        }
        let authority = der::sequence(&[&der::tlv(0x80, &key_id(self.issuer_spki))]);
        list.push(extension(oid::AUTHORITY_KEY_ID, false, &authority));
        if !self.sans.is_empty() {
            list.push(extension(oid::SUBJECT_ALT_NAME, false, &alt_names(self.sans)));
        }
        der::tlv(0xa3, &der::tlv(der::SEQUENCE, &list.concat()))
    }

    fn sign(&self, key: &Key, now: Timestamp, life: Duration) -> Result<Vec<u8>, Error> {
        let mut serial: [u8; 16] = random::bytes()?;
        serial[0] = serial[0] & 0x7f | 0x40;
        let start = now - BACKDATE;
        let end = now.checked_add(life).unwrap_or(Timestamp::MAX);
        let algorithm = signature_algorithm(key);
        let to_sign = der::sequence(&[
            &der::tlv(0xa0, &der::unsigned(&[2])),
            &der::unsigned(&serial),
            &algorithm,
            self.issuer,
            &der::sequence(&[&der::time(start), &der::time(end)]),
            self.subject,
            self.spki,
            &self.extensions(),
        ]);
        let signature = key.sign(&to_sign)?;
        Ok(der::sequence(&[&to_sign, &algorithm, &der::bit_string(&signature)]))
    }
}

/// What is read from a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The subject.
    pub subject: Subject,
    /// The subject's encoded name.
    pub subject_der: Vec<u8>,
    /// The issuer's encoded name.
    pub issuer_der: Vec<u8>,
    /// Seconds since 1970 from when it holds.
    pub not_before: i64,
    /// Seconds since 1970 until when it holds.
    pub not_after: i64,
    /// Its names.
    pub sans: Vec<San>,
    /// The public key's PKIX form.
    pub spki: Vec<u8>,
    /// Whether it is an authority.
    pub is_ca: bool,
}

impl Info {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(cert: &[u8]) -> Result<Self, Error> {
        let (_, parsed) = X509Certificate::from_der(cert).map_err(|e| Error::Certificate(e.to_string()))?;
        let sans = match parsed.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.iter().filter_map(read_san).collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            subject: read_subject(parsed.subject()),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            sans,
            spki: parsed.public_key().raw.to_vec(),
            is_ca: parsed.is_ca(),
        })
    }

    /// The public key.
    ///
    /// # Errors
    /// It is of a kind that is not supported.
    pub fn public_key(&self) -> Result<PublicKey, Error> {
        PublicKey::from_spki(&self.spki)
    }

    /// Whether less than a fifth of its life is left, or it does not hold yet.
    pub fn near_expiry(&self, now: i64) -> bool {
        now < self.not_before || self.not_after - now < (self.not_after - self.not_before) / 5
    }
}

pub(crate) fn read_san(name: &GeneralName<'_>) -> Option<San> {
    match name {
        GeneralName::DNSName(name) => Some(San::Dns((*name).to_owned())),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| San::Ip(b.into())),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| San::Ip(b.into())),
        },
        _ => None,
    }
}

pub(crate) fn read_subject(name: &x509_parser::x509::X509Name<'_>) -> Subject {
    let mut subject = Subject::default();
    let uid = der::object_id(oid::USER_UID);
    for attribute in name.iter_attributes() {
        let Ok(value) = attribute.as_str() else { continue };
        let id = attribute.attr_type();
        if *id == x509_parser::oid_registry::OID_X509_COMMON_NAME {
            subject.common_name = value.to_owned();
        } else if *id == x509_parser::oid_registry::OID_X509_ORGANIZATION_NAME {
            subject.organizations.push(value.to_owned());
        } else if uid.get(2..) == Some(id.as_bytes()) {
            subject.uid = value.to_owned();
        }
    }
    subject
}
