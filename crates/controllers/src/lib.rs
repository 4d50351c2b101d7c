//! The controllers, one file each.
//!
//! [`CONTROLLERS`] is the one list: name, whether it runs by default, and how it starts. A controller sees
//! shared caches and a client under its own service account; it computes a plan from the caches (pure, table-tested)
//! and acts through the API with preconditions. Nothing polls and nothing resyncs.

mod cluster;
mod discovery;
mod frame;
mod network;
mod owner;
mod pods;
mod table;
mod workload;

pub use frame::{Context, Options, run};
pub use table::{CONTROLLERS, Entry};
