//! rustls configurations from our keys and certificates.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Error, Pair};

/// The one crypto provider.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn chain(pair: &Pair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.key.der().to_vec()));
    (vec![CertificateDer::from(pair.cert.clone())], key)
}

fn roots(authorities: &[Vec<u8>]) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for authority in authorities {
        store.add(CertificateDer::from(authority.clone()))?;
    }
    Ok(store)
}

/// Which client certificates a server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// None.
    No,
    /// Any, as the API server does: holding the key is proved in the handshake, but who signed the certificate is the
    /// authenticator's business, so that a stranger's certificate gives 401 and not a broken connection.
    Request,
}

/// A server's configuration with HTTP/2 and HTTP/1.1 offered.
///
/// # Errors
/// rustls refuses the key or certificate.
pub fn server_config(pair: &Pair, auth: ClientAuth) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match auth {
        ClientAuth::No => builder.with_no_client_auth(),
        ClientAuth::Request => builder.with_client_cert_verifier(any_client()),
    };
    let (certs, key) = chain(pair);
    let mut config = builder.with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A server's configuration that admits only clients of an authority (mTLS).
///
/// # Errors
/// rustls refuses the key, the certificate or the authorities.
pub fn mutual_server_config(pair: &Pair, authorities: &[Vec<u8>]) -> Result<ServerConfig, Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities)?), provider())
        .build()
        .map_err(|e| Error::Verifier(e.to_string()))?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let (certs, key) = chain(pair);
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A client's configuration that trusts the given authorities (DER) and shows a certificate when it has one. The caller
/// sets ALPN.
///
/// # Errors
/// rustls refuses the key, the certificate or the authorities.
pub fn client_config(authorities: &[Vec<u8>], pair: Option<&Pair>) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authorities)?);
    match pair {
        None => Ok(builder.with_no_client_auth()),
        Some(pair) => {
            let (certs, key) = chain(pair);
            Ok(builder.with_client_auth_cert(certs, key)?)
        }
    }
}

/// Whether a certificate's signature is the authority's.
pub(crate) fn is_signed_by(cert: &[u8], authority: &[u8]) -> bool {
    let (Ok((_, cert)), Ok((_, authority))) = (X509Certificate::from_der(cert), X509Certificate::from_der(authority))
    else {
        return false;
    };
    cert.verify_signature(Some(authority.public_key())).is_ok()
}

/// Checks client certificate chains against authorities, for the authenticators.
#[derive(Debug)]
pub struct ClientChainVerifier(Arc<dyn ClientCertVerifier>);

impl ClientChainVerifier {
    /// A verifier for certificates that these authorities (DER) signed.
    ///
    /// # Errors
    /// There is no authority, or one is no certificate.
    pub fn new(authorities: &[Vec<u8>]) -> Result<Self, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities)?), provider())
            .build()
            .map_err(|e| Error::Verifier(e.to_string()))?;
        Ok(Self(verifier))
    }

    /// Checks a chain (leaf first) at the present time: signatures, validity, client usage.
    ///
    /// # Errors
    /// The chain does not hold.
    pub fn verify(&self, chain: &[Vec<u8>]) -> Result<(), Error> {
        let mut certs = chain.iter().map(|c| CertificateDer::from(c.as_slice()));
        let leaf = certs.next().ok_or_else(|| Error::Certificate("no certificate was shown".into()))?;
        let rest: Vec<CertificateDer<'_>> = certs.collect();
        let seconds = u64::try_from(rt::time::unix_seconds()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self.0.verify_client_cert(&leaf, &rest, now)?;
        Ok(())
    }
}

/// A server's verifier that asks for a certificate, demands none, and takes any whose key the client proves to hold.
pub fn any_client() -> Arc<dyn ClientCertVerifier> {
    Arc::new(AnyClient(provider()))
}

/// A client's verifier that takes any certificate whose key the server proves to hold: where the user asked for it, and where
/// health is checked and not identity.
pub fn any_server() -> Arc<dyn ServerCertVerifier> {
    Arc::new(AnyServer(provider()))
}

#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
