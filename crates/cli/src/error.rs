//! Why a command failed.

/// Result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed, with what to do next where that is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The local cluster could not be started, found or ended.
    #[error(transparent)]
    Local(#[from] local::Error),
    /// The API server refused or did not answer.
    #[error("{doing}")]
    Api {
        /// What was tried.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<client::Error>,
    },
    /// The kubeconfig is unusable.
    #[error("use the kubeconfig")]
    Kubeconfig(#[from] client::ConfigError),
    /// Keys or certificates could not be made.
    #[error("make the cluster's keys")]
    Pki(#[from] pki::Error),
    /// A file could not be used.
    #[error("{doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An image could not be handled.
    #[error("{doing}")]
    Image {
        /// What was tried.
        doing: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Said in full.
    #[error("{0}")]
    Other(String),
}

/// An error and its causes, one a line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("\n  because: {cause}"));
        source = cause.source();
    }
    text
}
