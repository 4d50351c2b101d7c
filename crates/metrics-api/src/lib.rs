//! The resource metrics API, `metrics.k8s.io/v1beta1`: what upstream's metrics-server answers, in the control plane.
//!
//! The kubelets' `/metrics/resource` is read through the API server's node proxy, every [`INTERVAL`] while somebody
//! asks and not at all when nobody does: an idle cluster pays nothing. A cold question takes two samples a second
//! apart, so that its answer is of now.

mod answer;
mod objects;
mod samples;
mod scrape;
mod text;

pub use answer::{GROUP, Server, VERSION};
pub use objects::ensure_objects;
pub use scrape::INTERVAL;
