//! One error type for all node services: what the kubelet has to tell apart, and the rest as text with a source.

use std::error::Error as StdError;

/// A boxed source.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The result of a node service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a node service could not do what was asked; the variants are the gRPC codes CRI runtimes use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sandbox, container or image is not there (gRPC `NotFound`).
    #[error("{what} \"{id}\" not found")]
    NotFound {
        /// `pod sandbox`, `container`, `image`.
        what: &'static str,
        /// The id or reference asked for.
        id: String,
    },
    /// Something with this name or id is there already (gRPC `AlreadyExists`).
    #[error("{what} \"{id}\" already exists")]
    AlreadyExists {
        /// `pod sandbox` or `container`.
        what: &'static str,
        /// The name or id.
        id: String,
    },
    /// The request can never be carried out as it stands (gRPC `InvalidArgument`).
    #[error("{0}")]
    InvalidArgument(String),
    /// The object is in the wrong state for the request, for example exec into a stopped container
    /// (gRPC `FailedPrecondition`).
    #[error("{0}")]
    FailedPrecondition(String),
    /// This kernel, machine or implementation lacks what the request needs; never skipped silently
    /// (gRPC `Unimplemented`).
    #[error("{0}")]
    Unsupported(String),
    /// The operation ran into its time limit (gRPC `DeadlineExceeded`).
    #[error("{0}")]
    DeadlineExceeded(String),
    /// The service or its peer is not there now; trying again later may help (gRPC `Unavailable`).
    #[error("{context}")]
    Unavailable {
        /// What was being done.
        context: String,
        /// Why it failed.
        #[source]
        source: Option<BoxError>,
    },
    /// The container could not be created from its configuration; becomes the waiting reason `CreateContainerError`
    /// or, from start, `RunContainerError`.
    #[error("{context}")]
    Container {
        /// What was being done.
        context: String,
        /// Why it failed.
        #[source]
        source: Option<BoxError>,
    },
    /// An image reference does not parse; the waiting reason is `InvalidImageName`.
    #[error("couldn't parse image name \"{image}\": {message}")]
    InvalidImageName {
        /// The reference.
        image: String,
        /// What is wrong with it.
        message: String,
    },
    /// An image could not be pulled; the waiting reason is `ErrImagePull` and then `ImagePullBackOff`.
    #[error("failed to pull image \"{image}\": {message}")]
    ImagePull {
        /// The reference.
        image: String,
        /// One line for the pod's status, such as upstream runtimes give.
        message: String,
        /// True where the registry itself did not answer (`RegistryUnavailable`).
        registry_unavailable: bool,
        /// Why it failed.
        #[source]
        source: Option<BoxError>,
    },
    /// Anything else (gRPC `Internal`/`Unknown`).
    #[error("{context}")]
    Internal {
        /// What was being done.
        context: String,
        /// Why it failed.
        #[source]
        source: Option<BoxError>,
    },
}

impl Error {
    /// An internal error with its source.
    pub fn internal(context: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Internal { context: context.into(), source: Some(source.into()) }
    }

    /// Whether the object asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// The error and all its sources on one line, for statuses and events, where no chain can be shown.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = StdError::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}
