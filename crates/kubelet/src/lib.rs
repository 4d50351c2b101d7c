//! The node agent: plan and act per pod.
//!
//! Sources (API, manifests) hand pods to one [`worker`] each. A worker observes the runtime, makes a [`pod::plan`] (pure)
//! and carries it out through `node-api`; it is woken by changes of its pod, by runtime events, probe results, changed
//! ConfigMaps and Secrets, and its own timers. Nothing is polled.

pub mod admit;
mod cgroups;
pub mod command;
pub mod config;
pub mod events;
pub mod flags;
pub mod k8s;
mod kubelet;
pub mod logs;
mod main_loop;
pub mod node;
pub mod objects;
pub mod pod;
pub mod probe;
pub mod server;
pub mod shared;
pub mod source;
pub mod spec;
pub mod statuses;
pub mod streaming;
pub mod worker;

pub use config::{Config, ServerAuth, ServerConfig};
pub use kubelet::{Error, run};
