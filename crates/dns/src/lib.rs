//! Cluster DNS by the Kubernetes DNS specification 1.1.0: Services, headless endpoints, ExternalName and pod names of
//! the cluster's zone; everything else goes to stub domains' or upstream resolvers through a cache.
//!
//! [`zone`] is a pure index that answers a question from what it was told; `convert` tells it, from informers. A
//! question is answered where it arrives, without a task of its own, unless it has to be forwarded.

mod cache;
mod convert;
mod forward;
mod message;
pub mod model;
mod objects;
mod resolv_conf;
mod server;
pub mod zone;

pub use forward::StubDomain;
pub use objects::ensure_objects;
pub use resolv_conf::{upstreams_of, upstreams_of_host};
pub use server::{Config, Error, Server, attach, serve};
