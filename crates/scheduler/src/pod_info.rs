//! A pod with everything that is computed from it once.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Pod;
use component_helpers::node_affinity::Required;
use component_helpers::requests::pod_requests;

use crate::resources::Amounts;

/// A port that a pod takes on its node's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HostPort {
    pub(crate) ip: String,
    pub(crate) protocol: String,
    pub(crate) port: i32,
}

impl HostPort {
    /// Whether both cannot be had on one node.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == "0.0.0.0" || other.ip == "0.0.0.0")
    }
}

/// A pod, read once.
#[derive(Debug)]
pub struct PodInfo {
    pub(crate) pod: Arc<Pod>,
    pub(crate) key: String,
    pub(crate) uid: String,
    pub(crate) priority: i32,
    pub(crate) requests: Amounts,
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) required: Required,
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                port: port.host_port.filter(|p| *p > 0)?,
                ip: port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into()),
                protocol: port.protocol.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "TCP".into()),
            })
        })
        .collect()
}

impl PodInfo {
    pub(crate) fn new(pod: Arc<Pod>) -> Self {
        Self {
            key: pod.key(),
            uid: pod.uid().to_owned(),
            priority: pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0),
            requests: Amounts::of(&pod_requests(&pod)),
            host_ports: host_ports(&pod),
            required: Required::of(&pod),
            pod,
        }
    }

    pub(crate) fn node_name(&self) -> &str {
        node_name(&self.pod)
    }
}

/// The node a pod is bound to, empty when it is not.
pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}
