//! What the proxy takes from its Node, and the node's own addresses.

use crate::engine::Error;
use api::Kind;
use api::k8s::core::v1::Node;
use ipnet::IpNet;
use std::net::IpAddr;
use sys::netlink::Handle;

const ZONE: &str = "topology.kubernetes.io/zone";
/// A node that the cluster autoscaler is about to delete.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// Facts about the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its zone.
    pub zone: String,
    /// Its internal addresses, then its external ones.
    pub ips: Vec<IpAddr>,
    /// Its podCIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether it stays.
    pub eligible: bool,
}

impl NodeFacts {
    /// From the Node.
    pub fn of(node: &Node) -> Self {
        let addresses = node.status.as_ref().and_then(|s| s.addresses.as_deref()).unwrap_or_default();
        let of_kind = |kind: &'static str| {
            addresses.iter().filter(move |a| a.type_ == kind).filter_map(|a| a.address.parse().ok())
        };
        let spec = node.spec.as_ref();
        let mut cidrs = spec.and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
        if cidrs.is_empty() {
            cidrs.extend(spec.and_then(|s| s.pod_cidr.clone()));
        }
        let tainted = spec.and_then(|s| s.taints.as_ref()).is_some_and(|t| t.iter().any(|t| t.key == TO_BE_DELETED));
        Self {
            zone: node.label(ZONE).unwrap_or_default().to_owned(),
            ips: of_kind("InternalIP").chain(of_kind("ExternalIP")).collect(),
            pod_cidrs: cidrs.iter().filter_map(|c| c.parse().ok()).collect(),
            eligible: !tainted && !node.is_deleting(),
        }
    }
}

/// Addresses of this host within one of the prefixes, loopback left out.
///
/// # Errors
/// When they cannot be listed.
pub fn addresses_in(prefixes: &[IpNet]) -> Result<Vec<IpAddr>, Error> {
    let all = Handle::open()?.addresses(None)?;
    let own = all.into_iter().map(|a| a.net.addr()).filter(|ip| !ip.is_loopback());
    Ok(own.filter(|ip| prefixes.iter().any(|net| net.contains(ip))).collect())
}
