//! End-to-end tests: what they share, which `bench` uses as well.
//!
//! [`Cluster`] is a real cluster started by the binary, ended and purged when it is dropped, whatever happened before.
//! [`machine`] looks at what a cluster has on this machine, and at what it has left behind.

pub mod ask;
mod cluster;
pub mod image;
pub mod machine;
pub mod registry;
pub mod server;
pub mod workshop;

pub use cluster::{Cluster, binary, image, kubectl, wait_for};
