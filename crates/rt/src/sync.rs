//! Channels and signals between tasks. All are runtime-neutral, so a simulation uses the same ones.

pub use tokio::sync::{Mutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
