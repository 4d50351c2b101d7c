//! Why a volume could not be set up; `Display` is what users read in the `FailedMount` event.

use std::path::PathBuf;

/// The result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a volume could not be set up or taken down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An API object is not there.
    #[error("{resource} \"{name}\" not found")]
    NotFound {
        /// Singular resource name, as upstream words it (`configmap`, `secret`).
        resource: &'static str,
        /// Its name.
        name: String,
    },
    /// An API object could not be read.
    #[error("failed to fetch {resource} \"{name}\": {message}")]
    Fetch {
        /// Resource.
        resource: &'static str,
        /// Its name.
        name: String,
        /// What the server or the transport said.
        message: String,
    },
    /// What the pod asks for cannot be done.
    #[error("{0}")]
    Invalid(String),
    /// No plugin here can serve the volume.
    #[error("{0}")]
    Unsupported(String),
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a participle.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed; shown, since the event text is all the user sees.
        source: std::io::Error,
    },
}

impl Error {
    /// Wraps an IO error with its path.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::Io { action, path: path.into(), source: source.into() }
    }

    /// Whether an API object was missing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
