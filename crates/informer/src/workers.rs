//! Workers on a queue.

use std::fmt::Display;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use rt::Shutdown;
use rt::time::Instant;

use crate::queue::Queue;

/// Runs `workers` workers until told to stop. A failed key comes again after its back-off; a panic counts as
/// a failure and ends nothing else.
pub async fn run_workers<K, E, F, R>(
    name: &'static str,
    queue: Arc<Queue<K>>,
    workers: usize,
    shutdown: Shutdown,
    reconcile: R,
) where
    K: Clone + Eq + Hash + Ord + Send + Sync + std::fmt::Debug + 'static,
    E: Display + Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    R: Fn(K) -> F + Send + Sync + 'static,
{
    let reconcile = Arc::new(reconcile);
    queue.measure(name);
    let tasks: Vec<_> = (0..workers.max(1))
        .map(|_| {
            let (queue, reconcile) = (queue.clone(), reconcile.clone());
            rt::spawn(name, async move {
                while let Some(key) = queue.get().await {
                    let began = Instant::now();
                    match AssertUnwindSafe(reconcile(key.clone())).catch_unwind().await {
                        Ok(Ok(())) => queue.forget(&key),
                        Ok(Err(error)) if queue.failures(&key) == 0 => {
                            // One failure is everyday: two writers met, or a cache was a moment behind.
                            tracing::debug!(worker = name, key = ?key, %error, "reconcile failed, will retry");
                            queue.add_rate_limited(key.clone());
                        }
                        Ok(Err(error)) => {
                            tracing::warn!(worker = name, key = ?key, %error, "reconcile failed again, will retry");
                            queue.add_rate_limited(key.clone());
                        }
                        Err(_) => {
                            tracing::error!(worker = name, key = ?key, "reconcile panicked, will retry");
                            queue.add_rate_limited(key.clone());
                        }
                    }
                    queue.worked(began.elapsed());
                    queue.done(&key);
                }
            })
        })
        .collect();
    shutdown.cancelled().await;
    queue.close();
    for task in tasks {
        // Waiting work could call a server that is gone: it is dropped, the next start picks it up.
        task.abort();
    }
}
