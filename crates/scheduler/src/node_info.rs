//! A node with the sums over its pods.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, Taint};
use component_helpers::requests::parse;

use crate::pod_info::{HostPort, PodInfo};
use crate::resources::Amounts;

/// A node as filters and scores see it.
#[derive(Debug)]
pub struct NodeInfo {
    pub(crate) node: Arc<Node>,
    pub(crate) name: String,
    pub(crate) pods: Vec<Arc<PodInfo>>,
    pub(crate) requested: Amounts,
    pub(crate) non_zero: (i64, i64),
    pub(crate) allocatable: Amounts,
    pub(crate) ports: Vec<HostPort>,
}

impl NodeInfo {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        let mut info = Self {
            name: node.name().to_owned(),
            node: Arc::default(),
            pods: Vec::new(),
            requested: Amounts::default(),
            non_zero: (0, 0),
            allocatable: Amounts::default(),
            ports: Vec::new(),
        };
        info.set_node(node);
        info
    }

    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        self.allocatable = Amounts::of(&parse(node.status.as_ref().and_then(|s| s.allocatable.as_ref())));
        self.node = node;
    }

    pub(crate) fn taints(&self) -> &[Taint] {
        self.node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
    }

    pub(crate) fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.count(&pod, 1);
        self.ports.extend(pod.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    pub(crate) fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|p| p.uid == uid)?;
        let pod = self.pods.swap_remove(at);
        self.count(&pod, -1);
        for port in &pod.host_ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }

    fn count(&mut self, pod: &PodInfo, sign: i64) {
        self.requested.add(&pod.requests, sign);
        let (cpu, memory) = pod.requests.non_zero();
        self.non_zero.0 += sign * cpu;
        self.non_zero.1 += sign * memory;
    }
}
