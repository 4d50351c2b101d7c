//! The kubelet's server.

use std::sync::Arc;

use rt::sync::watch;

use crate::shared::Shared;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("listen on {address}")]
    Bind {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("configure TLS")]
    Tls(#[source] wire::TlsError),
}

/// Starts it.
///
/// # Errors
/// See [`Error`].
pub async fn start(_shared: Arc<Shared>, _changes: Arc<watch::Sender<u64>>) -> Result<(), Error> {
    Ok(())
}
