//! What can go wrong with a store.

use std::{path::PathBuf, sync::Arc};

use crate::{LeaseId, Revision};

/// Why a store refused or failed.
///
/// It is `Clone`, because one failed group commit answers many writers; sources are shared.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The revision asked for was compacted away; list again and start from there.
    #[error("required revision {requested} has been compacted (oldest is {compacted})")]
    Compacted {
        /// What was asked for; 0 if not known.
        requested: Revision,
        /// The oldest revision that can be read; 0 if not known.
        compacted: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("required revision {requested} is a future revision (current is {current})")]
    FutureRevision {
        /// What was asked for.
        requested: Revision,
        /// The current revision; 0 if not known.
        current: Revision,
    },
    /// The store was closed; no later call will succeed.
    #[error("the store is closed")]
    Closed,
    /// A transaction with more operations than the engine's limit.
    #[error("too many operations in one transaction (limit {limit})")]
    TooManyOps {
        /// The limit; 0 if not known.
        limit: usize,
    },
    /// A transaction that writes one key twice.
    #[error("duplicate key given in transaction")]
    DuplicateKey,
    /// A key that is empty where one is needed.
    #[error("key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// Keys and values of a request together are above the engine's limit.
    #[error("request is too large (limit {limit} bytes)")]
    TooLarge {
        /// The limit; 0 if not known.
        limit: usize,
    },
    /// The disk or the quota is full; nothing of the request was written.
    #[error("no space left in the store")]
    NoSpace,
    /// A lease that does not exist or has ended.
    #[error("requested lease not found: {0:x}")]
    LeaseNotFound(LeaseId),
    /// A lease was to be created under an id in use.
    #[error("lease already exists: {0:x}")]
    LeaseExists(LeaseId),
    /// A lease with a time to live that is not allowed.
    #[error("lease time to live is out of range: {0} s")]
    LeaseTtl(i64),
    /// The engine cannot be reached or has no leader; the request may or may not have been done.
    #[error("the store is unavailable: {message}")]
    Unavailable {
        /// What the engine or the transport said.
        message: String,
    },
    /// The engine did not answer in time; the request may or may not have been done.
    #[error("the store did not answer in time")]
    Timeout,
    /// The engine refused our credentials.
    #[error("the store refused the request: {message}")]
    Denied {
        /// What the engine said.
        message: String,
    },
    /// A record on disk does not match its checksum or cannot be read.
    #[error("corrupt record at revision {revision}: {what}")]
    Corrupt {
        /// The record's revision; 0 if it is not a record of a revision.
        revision: Revision,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The data were written by a newer version of this program.
    #[error("data format {found} is newer than this program understands ({supported})")]
    FormatTooNew {
        /// The version found.
        found: u32,
        /// The newest one that can be read.
        supported: u32,
    },
    /// Another process has the data directory open.
    #[error("data directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: Arc<std::io::Error>,
    },
    /// The engine failed in a way that is none of the above.
    #[error("store engine failed to {action}")]
    Engine {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The request makes no sense.
    #[error("invalid request: {0}")]
    Invalid(&'static str),
    /// This engine cannot do it.
    #[error("not supported by this engine: {0}")]
    Unsupported(&'static str),
}

impl Error {
    /// Whether the same request may succeed if it is made again. A write that failed so may have been done.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout)
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source: Arc::new(source) }
    }

    pub(crate) fn engine(action: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Engine { action, source: Arc::new(source) }
    }
}
