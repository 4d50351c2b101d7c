//! The cluster as one cycle sees it: unchanging while it runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Kind;
use parking_lot::Mutex;
use rt::HashMap;

use crate::cache::ImageSpread;
use crate::node_info::NodeInfo;
use crate::tally::Topology;

/// All nodes at one moment. It shares them with the cache; see [`crate::cache::Cache::refresh`].
#[derive(Default)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeInfo>>,
    by_name: Arc<HashMap<Arc<str>, usize>>,
    /// Places of nodes with pods that say something about other pods, and of those with pods that keep others away.
    with_affinity: BTreeSet<usize>,
    with_anti_affinity: BTreeSet<usize>,
    pub(crate) images: Arc<ImageSpread>,
    /// By label, made when asked for, good until labels change.
    topologies: Mutex<HashMap<Arc<str>, Arc<Topology>>>,
}

#[cfg(test)]
impl Clone for Snapshot {
    fn clone(&self) -> Self {
        Self {
            nodes: self.nodes.clone(),
            by_name: self.by_name.clone(),
            with_affinity: self.with_affinity.clone(),
            with_anti_affinity: self.with_anti_affinity.clone(),
            images: self.images.clone(),
            topologies: Mutex::default(),
        }
    }
}

fn mark(set: &mut BTreeSet<usize>, at: usize, on: bool) {
    if on {
        set.insert(at);
    } else if !set.is_empty() {
        set.remove(&at);
    }
}

impl Snapshot {
    /// All nodes; a node's place in it is its number.
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    /// The place of a node.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.place(name).map(|at| &self.nodes[at])
    }

    /// Whether a pod says something about other pods.
    pub(crate) fn has_affinity(&self) -> bool {
        !self.with_affinity.is_empty()
    }

    /// Whether a pod keeps others away.
    pub(crate) fn has_anti_affinity(&self) -> bool {
        !self.with_anti_affinity.is_empty()
    }

    /// The parts of the topology that nodes are in by a label.
    pub(crate) fn topology(&self, key: &Arc<str>) -> Arc<Topology> {
        let mut known = self.topologies.lock();
        if let Some(topology) = known.get(key) {
            return topology.clone();
        }
        let topology = Arc::new(Topology::new(self.nodes.iter().map(|n| n.node.label(key))));
        known.insert(key.clone(), topology.clone());
        topology
    }

    pub(crate) fn rebuild(&mut self, nodes: &[Arc<NodeInfo>], by_name: &Arc<HashMap<Arc<str>, usize>>) {
        self.topologies.get_mut().clear();
        self.nodes = nodes.to_vec();
        self.by_name = by_name.clone();
        self.with_affinity.clear();
        self.with_anti_affinity.clear();
        for (at, node) in nodes.iter().enumerate() {
            mark(&mut self.with_affinity, at, node.with_affinity > 0);
            mark(&mut self.with_anti_affinity, at, node.with_anti_affinity > 0);
        }
    }

    pub(crate) fn replace(&mut self, at: usize, node: &Arc<NodeInfo>) {
        if self.nodes[at].generation == node.generation {
            return;
        }
        mark(&mut self.with_affinity, at, node.with_affinity > 0);
        mark(&mut self.with_anti_affinity, at, node.with_anti_affinity > 0);
        let before = &self.nodes[at].node;
        if !Arc::ptr_eq(before, &node.node) && before.labels() != node.node.labels() {
            self.topologies.get_mut().clear();
        }
        self.nodes[at] = node.clone();
    }
}
