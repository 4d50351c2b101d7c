//! Certificate signing requests: made by joining nodes, signed by the certificate controller.

use std::time::Duration;

use x509_parser::prelude::{FromDer, ParsedExtension, X509CertificationRequest};

use crate::cert::{Pair, San, Subject, Usage, alt_names, read_san, read_subject, signature_algorithm};
use crate::der::{self, oid};
use crate::{Error, Key, pem};

/// What is read from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The subject.
    pub subject: Subject,
    /// The subject's encoded name, copied as it stands into the certificate.
    pub subject_der: Vec<u8>,
    /// Names and addresses asked for.
    pub sans: Vec<San>,
    /// Whether it asks for names that are neither DNS names nor addresses (mail, URI).
    pub other_sans: bool,
    /// The public key's PKIX form.
    pub spki: Vec<u8>,
}

impl Request {
    /// Makes and signs a request, as PEM.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn create(key: &Key, subject: &Subject, sans: &[San]) -> Result<String, Error> {
        let attributes = if sans.is_empty() {
            Vec::new()
        } else {
            let names = der::tlv(der::OCTET_STRING, &alt_names(sans));
            let extension = der::sequence(&[&der::object_id(oid::SUBJECT_ALT_NAME), &names]);
            let extensions = der::set(&[&der::sequence(&[&extension])]);
            der::sequence(&[&der::object_id(oid::EXTENSION_REQUEST), &extensions])
        };
        let to_sign =
            der::sequence(&[&der::unsigned(&[0]), &subject.name(), &key.public().spki(), &der::tlv(0xa0, &attributes)]);
        let signature = der::bit_string(&key.sign(&to_sign)?);
        let whole = der::sequence(&[&to_sign, &signature_algorithm(key), &signature]);
        Ok(pem::encode("CERTIFICATE REQUEST", &whole))
    }

    /// Reads a PEM request and checks its signature.
    ///
    /// # Errors
    /// It is no request, or is not signed by its own key.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let block = pem::parse(text)
            .into_iter()
            .find(|b| b.label == "CERTIFICATE REQUEST" || b.label == "NEW CERTIFICATE REQUEST")
            .ok_or_else(|| Error::Request("PEM block type must be CERTIFICATE REQUEST".into()))?;
        let (_, request) = X509CertificationRequest::from_der(&block.der).map_err(|e| Error::Request(e.to_string()))?;
        request.verify_signature().map_err(|e| Error::Request(e.to_string()))?;
        let (mut sans, mut other_sans) = (Vec::new(), false);
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    match read_san(name) {
                        Some(san) => sans.push(san),
                        None => other_sans = true,
                    }
                }
            }
        }
        let info = &request.certification_request_info;
        Ok(Self {
            subject: read_subject(&info.subject),
            subject_der: info.subject.as_raw().to_vec(),
            sans,
            other_sans,
            spki: info.subject_pki.raw.to_vec(),
        })
    }

    /// Signs the request's certificate, as PEM.
    ///
    /// # Errors
    /// The authority cannot sign.
    pub fn sign(&self, ca: &Pair, usage: Usage, life: Duration) -> Result<String, Error> {
        let cert = ca.certify(&self.subject_der, &self.spki, &self.sans, usage, life)?;
        Ok(pem::encode("CERTIFICATE", &cert))
    }
}
