//! A node with the sums over its pods.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{ContainerImage, Node, Taint};
use component_helpers::requests::parse;

use crate::pod_info::{HostPort, PodInfo};
use crate::resources::Amounts;

/// An image on a node: one of its names, and its size.
pub(crate) type Image = (Arc<str>, i64);

/// A node as filters and scores see it. Clones are cheap: what is large is shared.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    // What every filter and score reads comes first, without a pointer to follow.
    pub(crate) unschedulable: bool,
    /// Taints that keep pods away, and those that only make the node less liked.
    pub(crate) hard_taints: bool,
    pub(crate) soft_taints: bool,
    pub(crate) allocatable: Amounts,
    pub(crate) requested: Amounts,
    pub(crate) non_zero: (i64, i64),
    pub(crate) name: Arc<str>,
    pub(crate) node: Arc<Node>,
    pub(crate) pods: Vec<Arc<PodInfo>>,
    pub(crate) ports: Vec<HostPort>,
    /// Sorted by name.
    pub(crate) images: Arc<Vec<Image>>,
    /// Pods that say something about other pods, and those that keep others away.
    pub(crate) with_affinity: u32,
    pub(crate) with_anti_affinity: u32,
    /// Changes with each change; equal numbers mean an equal node.
    pub(crate) generation: u64,
}

fn listed_images(node: &Node) -> &[ContainerImage] {
    node.status.as_ref().and_then(|s| s.images.as_deref()).unwrap_or_default()
}

fn images(node: &Node) -> Vec<Image> {
    let list = listed_images(node);
    let named = |image: &ContainerImage| -> Vec<Image> {
        let size = image.size_bytes.unwrap_or(0);
        image.names.iter().flatten().map(|name| (name.as_str().into(), size)).collect()
    };
    let mut all: Vec<Image> = list.iter().flat_map(named).collect();
    all.sort();
    all.dedup_by(|a, b| a.0 == b.0);
    all
}

impl NodeInfo {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        let mut info = Self {
            name: node.name().into(),
            node: Arc::default(),
            pods: Vec::new(),
            requested: Amounts::default(),
            non_zero: (0, 0),
            allocatable: Amounts::default(),
            unschedulable: false,
            hard_taints: false,
            soft_taints: false,
            ports: Vec::new(),
            images: Arc::default(),
            with_affinity: 0,
            with_anti_affinity: 0,
            generation: 0,
        };
        info.set_node(node);
        info
    }

    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
        if allocatable(&self.node) != allocatable(&node) {
            self.allocatable = Amounts::of(&parse(node.status.as_ref().and_then(|s| s.allocatable.as_ref())));
        }
        self.unschedulable = node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
        self.hard_taints = taints(&node).iter().any(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
        self.soft_taints = taints(&node).iter().any(|t| t.effect == "PreferNoSchedule");
        if listed_images(&self.node) != listed_images(&node) {
            self.images = Arc::new(images(&node));
        }
        self.node = node;
    }

    pub(crate) fn taints(&self) -> &[Taint] {
        taints(&self.node)
    }

    /// The size of an image that is on the node.
    pub(crate) fn image(&self, name: &str) -> Option<i64> {
        let at = self.images.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(self.images[at].1)
    }

    pub(crate) fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.count(&pod, 1);
        self.with_affinity += u32::from(pod.affinity.is_some());
        self.with_anti_affinity += u32::from(pod.has_required_anti_affinity());
        self.ports.extend(pod.host_ports.iter().cloned());
        self.pods.push(pod);
    }

    pub(crate) fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|p| p.uid == uid)?;
        let pod = self.pods.swap_remove(at);
        self.count(&pod, -1);
        self.with_affinity -= u32::from(pod.affinity.is_some());
        self.with_anti_affinity -= u32::from(pod.has_required_anti_affinity());
        for port in &pod.host_ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }

    fn count(&mut self, pod: &PodInfo, sign: i64) {
        self.requested.add(&pod.requests, sign);
        let (cpu, memory) = pod.non_zero;
        self.non_zero.0 += sign * cpu;
        self.non_zero.1 += sign * memory;
    }
}

/// A node's taints.
pub(crate) fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}
