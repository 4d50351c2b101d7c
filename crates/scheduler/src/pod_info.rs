//! A pod with everything that is computed from it once.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Pod, Toleration};
use component_helpers::node_affinity::Required;

use crate::affinity::{Affinity, Term, Weighted};
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
#[derive(Debug, Clone)]
pub struct PodInfo {
    pub(crate) pod: Arc<Pod>,
    pub(crate) key: String,
    pub(crate) uid: String,
    pub(crate) priority: i32,
    pub(crate) requests: Amounts,
    /// CPU and memory, as scoring counts them.
    pub(crate) non_zero: (i64, i64),
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) required: Required,
    pub(crate) affinity: Option<Box<Affinity>>,
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
            requests: Amounts::requested_by(&pod),
            non_zero: Amounts::non_zero(&pod),
            host_ports: host_ports(&pod),
            required: Required::of(&pod),
            affinity: Affinity::of(&pod),
            pod,
        }
    }

    pub(crate) fn node_name(&self) -> &str {
        node_name(&self.pod)
    }

    /// The node that the pod waits for a place on.
    pub(crate) fn nominated(&self) -> &str {
        self.pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref()).unwrap_or_default()
    }

    pub(crate) fn tolerations(&self) -> &[Toleration] {
        self.pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
    }

    pub(crate) fn has_required_anti_affinity(&self) -> bool {
        self.affinity.as_ref().is_some_and(|a| !a.required_anti.is_empty())
    }

    pub(crate) fn required_terms(&self) -> &[Term] {
        self.affinity.as_ref().map_or(&[], |a| &a.required)
    }

    pub(crate) fn required_anti_terms(&self) -> &[Term] {
        self.affinity.as_ref().map_or(&[], |a| &a.required_anti)
    }

    pub(crate) fn preferred_terms(&self) -> &[Weighted] {
        self.affinity.as_ref().map_or(&[], |a| &a.preferred)
    }

    pub(crate) fn preferred_anti_terms(&self) -> &[Weighted] {
        self.affinity.as_ref().map_or(&[], |a| &a.preferred_anti)
    }
}

/// The node a pod is bound to, empty when it is not.
pub(crate) fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default()
}
