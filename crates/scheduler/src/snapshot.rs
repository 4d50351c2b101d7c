//! The cluster as one cycle sees it: unchanging while it runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use rt::HashMap;

use crate::cache::ImageSpread;
use crate::node_info::NodeInfo;

/// All nodes at one moment. It shares them with the cache; see [`crate::cache::Cache::refresh`].
#[derive(Default, Clone)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeInfo>>,
    by_name: Arc<HashMap<Arc<str>, usize>>,
    /// Places of nodes with pods that say something about other pods, and of those with pods that keep others away.
    with_affinity: BTreeSet<usize>,
    with_anti_affinity: BTreeSet<usize>,
    pub(crate) images: Arc<ImageSpread>,
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

    /// The nodes with pods that say something about other pods.
    pub(crate) fn with_affinity(&self) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.with_affinity.iter().map(|at| &self.nodes[*at])
    }

    /// The nodes with pods that keep others away.
    pub(crate) fn with_anti_affinity(&self) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.with_anti_affinity.iter().map(|at| &self.nodes[*at])
    }

    pub(crate) fn rebuild(&mut self, nodes: &[Arc<NodeInfo>], by_name: &Arc<HashMap<Arc<str>, usize>>) {
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
        self.nodes[at] = node.clone();
    }
}
