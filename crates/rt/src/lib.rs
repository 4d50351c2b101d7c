//! Executor, clock, randomness, hashing and shutdown: everything that `sim` replaces.
//!
//! Rooms that must run as a function of a seed (`registry`, `informer`, `controllers`, `scheduler`, the
//! planning half of `kubelet`) use these and never tokio, threads, `Instant`, `SystemTime` or the default
//! hashers. The executor below is tokio; a simulation runs the same code on a current-thread runtime
//! whose time is paused and whose randomness is seeded ([`rand::seed`], [`time::set_epoch`]).

mod backoff;
pub mod hash;
pub mod rand;
mod shutdown;
pub mod sync;
mod task;
pub mod time;

pub use backoff::Backoff;
pub use hash::{HashMap, HashSet};
pub use shutdown::Shutdown;
pub use task::{JoinError, JoinHandle, spawn, spawn_blocking, yield_now};
/// Waits on several futures; the branches are polled in the order they are written.
pub use tokio::select;
