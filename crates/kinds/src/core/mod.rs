//! The core group.

pub mod cidr;
mod config_map;
mod endpoints;
pub mod event;
mod ip_claims;
mod limit_range;
mod namespace;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_parts;
mod pod_printer;
mod pod_template;
mod replication_controller;
mod resource_quota;
mod secret;
mod service;
mod service_account;
pub mod service_allocator;
mod virtual_kinds;

use std::collections::BTreeSet;

use meta::Object;
use registry::{KindRow, Verbs};

use crate::Config;
use crate::printer::{list, str_in};

/// Verbs of the proxy subresources.
const PROXY_VERBS: Verbs = Verbs::STATUS.and(Verbs::CREATE).and(Verbs::DELETE);

/// The rows of the group.
pub fn rows(config: &Config) -> Vec<KindRow> {
    vec![
        virtual_kinds::binding(),
        virtual_kinds::component_status(),
        config_map::row(),
        endpoints::row(),
        event::row(),
        limit_range::row(),
        namespace::row(),
        node::row(),
        persistent_volume_claim::row(),
        persistent_volume::row(),
        pod::row(),
        pod_template::row(),
        replication_controller::row(),
        resource_quota::row(),
        secret::row(),
        service_account::row(),
        service::row(config.service_hooks.clone()),
    ]
}

/// Addresses in `status.loadBalancer.ingress`, sorted, each once.
pub(crate) fn balancer_addresses(object: &Object) -> BTreeSet<String> {
    let entries = list(object, &["status", "loadBalancer", "ingress"]).iter();
    let address = |entry| match (str_in(entry, "ip"), str_in(entry, "hostname")) {
        ("", host) => host,
        (ip, _) => ip,
    };
    entries.map(address).filter(|a| !a.is_empty()).map(str::to_owned).collect()
}
