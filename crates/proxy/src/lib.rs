//! The service proxy: Services and EndpointSlices to nf_tables, as kube-proxy's nftables mode does it.
//!
//! Objects become plain data ([`model`], by `convert`), a pure [`planner`] turns changes into transactions of their
//! size, an [`engine`] applies them and cleans up UDP flows, and [`run`](run::run) feeds it from informers, at once on
//! the first change and with a pause that follows the work. [`server`] has healthz, metrics and the load balancers'
//! health check ports; [`flags`] is kube-proxy's command line.

pub mod compile;
mod conntrack;
mod convert;
pub mod endpoints;
pub mod engine;
pub mod flags;
pub mod frame;
pub mod health;
pub mod kernel;
mod metrics;
pub mod model;
mod names;
mod node;
pub mod planner;
mod run;
pub mod server;

pub use engine::{Error, cleanup};
pub use run::{Config, DetectLocal, NodePortAddresses, Runner, attach, run};
