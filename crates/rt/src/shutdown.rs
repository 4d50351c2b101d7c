//! A tree of cancellation.

use tokio_util::sync::{CancellationToken, DropGuard};

/// Tells tasks to stop. Cancelling a parent cancels its children, not the reverse.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A root.
    pub fn new() -> Self {
        Self::default()
    }

    /// A child that ends with this one, or earlier by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Tells everyone to stop.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it was told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until told to stop. Cancel-safe.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Cancels when the guard is dropped.
    pub fn drop_guard(&self) -> DropGuard {
        self.0.clone().drop_guard()
    }

    /// Runs a future until it is done or the stop comes; `None` when stopped.
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = Option<F::Output>> + use<F> {
        // An owned wait: a borrowed one makes the future's `Send` hard for the compiler to prove.
        let cancelled = self.0.clone().cancelled_owned();
        async move {
            tokio::select! {
                biased;
                () = cancelled => None,
                output = future => Some(output),
            }
        }
    }
}
