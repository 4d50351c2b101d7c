//! One strategy and one table row per built-in kind.
//!
//! A kind is one file `src/<group>/<kind>.rs`: a [`standard::Standard`] constant and a row. Everything that can be said
//! about a kind without its storage (defaults, validation, conversion) is in `rules`.

mod admissionregistration;
mod apiextensions;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod flowcontrol;
mod networking;
mod node;
mod policy;
pub mod printer;
mod rbac;
mod resource;
mod reviews;
mod scheduling;
pub mod standard;
mod storage;

use std::sync::Arc;

use meta::GroupVersionKind;
use registry::KindRow;

pub use crate::core::service_allocator::{Cidr, ServiceHooks, ServiceRanges};

/// What rows need to know about the server.
#[derive(Clone)]
pub struct Config {
    /// Allocates cluster IPs and node ports.
    pub service_hooks: Arc<ServiceHooks>,
    /// Whether there are Workloads and PodGroups (the gate GenericWorkload).
    pub pod_groups: bool,
}

impl Config {
    /// A configuration with the given service ranges.
    pub fn new(ranges: ServiceRanges) -> Self {
        Self { service_hooks: Arc::new(ServiceHooks::new(ranges)), pod_groups: false }
    }
}

/// The rows of all built-in kinds, group by group.
pub fn kinds(config: &Config) -> Vec<KindRow> {
    // Rules of pods must know, and know no server.
    rules::gates::GENERIC_WORKLOAD.set(config.pod_groups);
    let mut rows = core::rows(config);
    rows.extend(admissionregistration::rows());
    rows.extend(apiextensions::rows());
    rows.extend(apps::rows());
    rows.extend(reviews::rows());
    rows.extend(autoscaling::rows());
    rows.extend(batch::rows());
    rows.extend(certificates::rows());
    rows.extend(coordination::rows());
    rows.extend(discovery::rows());
    rows.push(core::event::new_row());
    rows.extend(flowcontrol::rows());
    rows.extend(networking::rows());
    rows.extend(node::rows());
    rows.extend(policy::rows());
    rows.extend(rbac::rows());
    rows.extend(resource::rows());
    rows.extend(scheduling::rows(config));
    rows.extend(storage::rows());
    rows
}

fn gvk(group: &str, version: &str, kind: &str) -> GroupVersionKind {
    GroupVersionKind::new(group, version, kind)
}
