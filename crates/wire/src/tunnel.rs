//! Upgraded connections: byte streams after a 101 answer.

use http::Request;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Body;

/// The stream that the connection becomes after its 101 answer was sent; `None` when it cannot be upgraded (HTTP/2 streams
/// without extended CONNECT, calls in process).
pub fn upgrade(
    request: &mut Request<Body>,
) -> Option<impl Future<Output = Result<TokioIo<Upgraded>, hyper::Error>> + Send + use<>> {
    let pending: OnUpgrade = request.extensions_mut().remove::<OnUpgrade>()?;
    Some(async move { pending.await.map(TokioIo::new) })
}

/// Copies in both directions until both ends are closed or one fails.
pub async fn splice<A, B>(mut a: A, mut b: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    // A broken tunnel is the peers' matter: both ends are closed by dropping them.
    if let Err(error) = tokio::io::copy_bidirectional_with_sizes(&mut a, &mut b, 32 * 1024, 32 * 1024).await {
        tracing::debug!(%error, "tunnel ended");
    }
}
