//! What can go wrong with images.

use std::path::PathBuf;

/// The result of this crate's own functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be stored, found or pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the store or of an archive.
    #[error("{op} {}", path.display())]
    Io {
        /// What was being done.
        op: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A system call.
    #[error("unpack a layer")]
    System(#[from] sys::Error),
    /// A document that does not parse.
    #[error("read {what}")]
    Document {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Content that is not what its digest says.
    #[error("{what} has digest {actual}, expected {expected}")]
    Digest {
        /// Which content.
        what: &'static str,
        /// What was promised.
        expected: String,
        /// What came.
        actual: String,
    },
    /// An archive or image that cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// A name that does not parse.
    #[error("couldn't parse image name {name:?}: {message}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The registry or the way to it.
    #[error("{context}")]
    Registry {
        /// What was asked for.
        context: String,
        /// What came back.
        #[source]
        source: Box<oci_client::errors::OciDistributionError>,
    },
    /// A background task ended early.
    #[error("the work was given up")]
    Cancelled,
}

impl Error {
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { op, path: path.into(), source }
    }

    /// The error and its sources on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl From<Error> for node_api::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Name { name, message } => Self::InvalidImageName { image: name, message },
            other => Self::internal("image store", other),
        }
    }
}
