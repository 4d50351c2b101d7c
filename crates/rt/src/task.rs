//! Tasks.

pub use tokio::task::{JoinError, JoinHandle, yield_now};
use tracing::Instrument;

/// Runs a future as a task of its own. The name goes to traces.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.instrument(tracing::debug_span!("task", task = name)))
}

/// Runs blocking work (file IO, hashing) on a thread meant for it.
pub fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    tokio::task::spawn_blocking(work)
}
