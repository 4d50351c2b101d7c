//! The Container Network Interface: its runtime side (libcni's operations), the plugins, and the pod network that
//! the kubelet's runtime calls.
//!
//! [`Network`] implements `node_api::NetworkService` over a [`runtime::Cni`] and a configuration list, which comes
//! from a directory or is built from the node's podCIDRs. Plugins named by the chain that are built in
//! ([`plugins::find`]) are called in process; others are executed. [`plugins::main`] makes the same plugins
//! executables for other runtimes. [`hostnet`] lays the host's network for `corten up`.
//!
//! Everything below `Network` is synchronous: an attachment is a few dozen system calls.

pub mod cache;
pub mod conf;
mod error;
mod exec;
pub mod hostnet;
pub mod network;
pub mod plugins;
pub mod result;
pub mod runtime;
pub mod version;

pub use error::{Error, Result, code};
pub use network::{Config, Network, PodLink};
