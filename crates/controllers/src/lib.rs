//! The controllers, one file each.
//!
//! [`CONTROLLERS`] is the one list: name, whether it runs by default, and how it starts. A controller sees
//! shared caches and a client under its own service account; it computes a plan from the caches (pure, table-tested)
//! and acts through the API with preconditions. Nothing polls and nothing resyncs.

mod accounts;
mod cluster;
mod command;
mod discovery;
pub mod flags;
mod frame;
mod network;
mod owner;
mod pods;
mod serve;
mod storage;
mod table;
mod workload;

pub use command::main;
pub use frame::{AutoscalerOptions, Context, EvictionRates, Health, LocalPath, Options, check_names, run};
pub use storage::local_path::ensure_storage_class;
pub use table::{CONTROLLERS, Entry};
