//! Why a cluster could not be started, found or ended.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a cluster could not be started, found or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be used.
    #[error("{operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A state file is malformed.
    #[error("parse {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A system call failed.
    #[error("{operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something else, said in full.
    #[error("{0}")]
    Other(String),
}

/// Adds what was tried to a failure.
pub trait Context<T> {
    /// Says what was tried.
    ///
    /// # Errors
    /// The same failure, with its context.
    fn doing(self, operation: &'static str) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn doing(self, operation: &'static str) -> Result<T> {
        self.map_err(|source| Error::System { operation, source: source.into() })
    }
}
