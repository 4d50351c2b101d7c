//! The nodes and the pods on them, assumed ones included.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, Pod};
use rt::HashMap;

use crate::node_info::NodeInfo;
use crate::pod_info::{PodInfo, node_name};

/// What is where. A pod that was decided on but is not bound yet is *assumed*: it counts on its node until
/// the watch confirms it or the binding fails.
#[derive(Default)]
pub(crate) struct Cache {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    /// Node of each pod by uid.
    placed: HashMap<String, String>,
    /// Pods on nodes that are not known (yet).
    homeless: HashMap<String, Vec<Arc<PodInfo>>>,
}

impl Cache {
    pub(crate) fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub(crate) fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).map(|at| &self.nodes[*at])
    }

    pub(crate) fn upsert_node(&mut self, node: Arc<Node>) {
        match self.by_name.get(node.name()) {
            Some(at) => self.nodes[*at].set_node(node),
            None => {
                let mut info = NodeInfo::new(node);
                for pod in self.homeless.remove(&info.name).unwrap_or_default() {
                    info.add_pod(pod);
                }
                self.by_name.insert(info.name.clone(), self.nodes.len());
                self.nodes.push(info);
            }
        }
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        let Some(at) = self.by_name.remove(name) else { return };
        let gone = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
        if !gone.pods.is_empty() {
            self.homeless.insert(gone.name, gone.pods);
        }
    }

    /// Counts a pod on the node that it names, in place of any older state of it.
    pub(crate) fn upsert_pod(&mut self, pod: &Arc<Pod>) {
        self.remove_pod(pod.uid());
        self.place(Arc::new(PodInfo::new(pod.clone())), node_name(pod));
    }

    /// Counts a pod on a node before it is bound.
    pub(crate) fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.place(pod, node);
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.placed.insert(pod.uid.clone(), node.to_owned());
        match self.by_name.get(node) {
            Some(at) => self.nodes[*at].add_pod(pod),
            None => self.homeless.entry(node.to_owned()).or_default().push(pod),
        }
    }

    /// Takes a pod off its node.
    pub(crate) fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let node = self.placed.remove(uid)?;
        match self.by_name.get(&node) {
            Some(at) => self.nodes[*at].remove_pod(uid),
            None => {
                let pods = self.homeless.get_mut(&node)?;
                let at = pods.iter().position(|p| p.uid == uid)?;
                let pod = pods.swap_remove(at);
                if pods.is_empty() {
                    self.homeless.remove(&node);
                }
                Some(pod)
            }
        }
    }

    /// Whether the pod counts on a node already.
    pub(crate) fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }
}
