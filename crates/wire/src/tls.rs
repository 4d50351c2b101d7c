//! TLS configuration that can be replaced while the listener runs.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text could not be read.
    #[error("read {what} from PEM")]
    Pem {
        /// Which text.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A PEM text holds nothing of the kind.
    #[error("no {0} found in PEM")]
    Missing(&'static str),
    /// The client verifier could not be built.
    #[error("build client certificate verifier")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// rustls refused.
    #[error("configure TLS")]
    Rustls(#[from] rustls::Error),
}

/// PEM texts of one listener.
#[derive(Debug, Clone, Default)]
pub struct TlsSource {
    /// Server certificate, leaf first.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// Whether clients are asked for a certificate. Any is taken, and its key proved: who signed it is the authenticator's
    /// business, so that a stranger's certificate gives 401 and not a broken connection.
    pub request_client_certificate: bool,
    /// CAs, PEM: when there are some, clients must come with a certificate that one of them signed, or not at all.
    pub client_ca: Vec<u8>,
}

/// The current configuration; cheap to clone and to replace.
#[derive(Clone)]
pub struct TlsConfig(Arc<RwLock<Arc<rustls::ServerConfig>>>);

impl TlsConfig {
    /// Builds the first configuration.
    ///
    /// # Errors
    /// The texts cannot be used.
    pub fn new(source: &TlsSource) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(build(source)?)))))
    }

    /// Replaces it for new connections.
    ///
    /// # Errors
    /// The texts cannot be used; the old configuration stays.
    pub fn replace(&self, source: &TlsSource) -> Result<(), TlsError> {
        let fresh = Arc::new(build(source)?);
        *self.0.write() = fresh;
        Ok(())
    }

    /// The configuration for the next connection.
    pub fn current(&self) -> Arc<rustls::ServerConfig> {
        self.0.read().clone()
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    rustls_pemfile::certs(&mut &*pem).collect::<Result<_, _>>().map_err(|source| TlsError::Pem { what, source })
}

fn build(source: &TlsSource) -> Result<rustls::ServerConfig, TlsError> {
    let chain = certificates(&source.certificate, "server certificate")?;
    let key: PrivateKeyDer<'static> = rustls_pemfile::private_key(&mut &*source.key)
        .map_err(|source| TlsError::Pem { what: "server key", source })?
        .ok_or(TlsError::Missing("server key"))?;
    let provider = pki::tls::provider();
    let builder =
        rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = if !source.client_ca.is_empty() {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(&source.client_ca, "client CA")? {
            roots.add(certificate)?;
        }
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build()?)
    } else if source.request_client_certificate {
        builder.with_client_cert_verifier(pki::tls::any_client())
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
