//! One error: what was done to which path, and what the kernel said.

use std::io;
use std::path::{Path, PathBuf};

/// The result of most functions here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed system call or file operation.
#[derive(Debug, thiserror::Error)]
#[error("{op} {}", path.display())]
pub struct Error {
    /// What was being done, as a verb.
    pub op: &'static str,
    /// To what; empty where there is no path.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl Error {
    /// An error without an error number: the input is wrong.
    pub fn invalid(op: &'static str, path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self { op, path: path.as_ref().to_owned(), source: io::Error::new(io::ErrorKind::InvalidInput, message.into()) }
    }

    /// The error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether the object was not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// The error with its source on one line, as it is written into a status.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// Adds the operation and the path to an error of the kernel.
pub trait Context<T> {
    /// `file.read().at("read", path)?`
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn at(self, op: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error { op, path: path.as_ref().to_owned(), source: source.into() })
    }
}
