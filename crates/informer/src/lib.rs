//! Shared caches, indexes, work queues, leader election and event recording.
//!
//! A [`Factory`] holds at most one [`Informer`] per kind and selector; every consumer in the process shares
//! its cache, whose objects are decoded once into an `Arc`. Handlers run in the informer's own task, in
//! the order of the watch, and must only enqueue. Work happens in the workers of a [`Queue`], which keeps a
//! key from being worked on twice at a time. There is no periodic resync: a watch has no gaps.

mod cache;
mod factory;
mod informer;
mod leader;
mod own_writes;
mod queue;
mod recorder;
mod workers;

pub use cache::{Cache, Delta};
pub use factory::Factory;
pub use informer::{Informer, Scope};
pub use leader::{LeaderConfig, lead};
pub use own_writes::OwnWrites;
pub use queue::Queue;
pub use recorder::{EventType, Recorder, reference};
pub use workers::run_workers;
