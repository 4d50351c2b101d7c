//! What can go wrong with keys and certificates.

use std::path::PathBuf;

/// A failure in this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no usable key or certificate.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes given as a key are none, or of a kind that is not supported.
    #[error("key: {0}")]
    Key(String),
    /// Bytes given as a certificate are none.
    #[error("certificate: {0}")]
    Certificate(String),
    /// Bytes given as a certificate signing request are none, or its signature does not fit.
    #[error("certificate request: {0}")]
    Request(String),
    /// The system's random source failed.
    #[error("the system's random source failed")]
    Random,
    /// A signature could not be made.
    #[error("sign: {0}")]
    Sign(&'static str),
    /// TLS refused the key, the certificate or the roots.
    #[error("TLS configuration")]
    Tls(#[from] rustls::Error),
    /// TLS refused the roots for client certificates.
    #[error("TLS client verification: {0}")]
    Verifier(String),
}
