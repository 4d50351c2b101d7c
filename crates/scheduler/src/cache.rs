//! The nodes and the pods on them, assumed ones included.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, Pod};
use rt::{HashMap, HashSet};

use crate::node_info::NodeInfo;
use crate::pod_info::{PodInfo, node_name};
use crate::snapshot::Snapshot;

/// On how many nodes each image is.
pub(crate) type ImageSpread = HashMap<Arc<str>, u32>;

/// What is where. A pod that was decided on but is not bound yet is *assumed*: it counts on its node until the watch
/// confirms it or the binding fails. Each change of a node gives it a new generation; a [`Snapshot`] takes over only
/// the nodes that changed since it was last brought up to date, and shares the rest.
#[derive(Default)]
pub(crate) struct Cache {
    nodes: Vec<Arc<NodeInfo>>,
    by_name: Arc<HashMap<Arc<str>, usize>>,
    /// Node of each pod by uid.
    placed: HashMap<String, Arc<str>>,
    /// Pods on nodes that are not known (yet).
    homeless: HashMap<Arc<str>, Vec<Arc<PodInfo>>>,
    images: Arc<ImageSpread>,
    /// Places that changed since the last snapshot.
    changed: HashSet<usize>,
    /// Whether nodes came or went since the last snapshot.
    reshaped: bool,
    generation: u64,
}

impl Cache {
    /// Brings a snapshot up to date.
    pub(crate) fn refresh(&mut self, snapshot: &mut Snapshot) {
        if self.reshaped {
            snapshot.rebuild(&self.nodes, &self.by_name);
            self.reshaped = false;
            self.changed.clear();
        }
        for at in self.changed.drain() {
            snapshot.replace(at, &self.nodes[at]);
        }
        if !Arc::ptr_eq(&snapshot.images, &self.images) {
            snapshot.images = self.images.clone();
        }
    }

    /// A node as it is now.
    #[cfg(test)]
    pub(crate) fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.by_name.get(name).map(|at| &self.nodes[*at])
    }

    fn touch(&mut self, at: usize) -> &mut NodeInfo {
        self.generation += 1;
        self.changed.insert(at);
        let node = Arc::make_mut(&mut self.nodes[at]);
        node.generation = self.generation;
        node
    }

    fn count_images(&mut self, gone: Option<&NodeInfo>, come: Option<&NodeInfo>) {
        if let (Some(gone), Some(come)) = (gone, come)
            && Arc::ptr_eq(&gone.images, &come.images)
        {
            return;
        }
        let spread = Arc::make_mut(&mut self.images);
        for (name, _) in gone.iter().flat_map(|n| n.images.iter()) {
            if let Some(count) = spread.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    spread.remove(name);
                }
            }
        }
        for (name, _) in come.iter().flat_map(|n| n.images.iter()) {
            *spread.entry(name.clone()).or_default() += 1;
        }
    }

    pub(crate) fn upsert_node(&mut self, node: Arc<Node>) {
        match self.by_name.get(node.name()).copied() {
            Some(at) => {
                let before = self.nodes[at].clone();
                self.touch(at).set_node(node);
                let after = self.nodes[at].clone();
                self.count_images(Some(&before), Some(&after));
            }
            None => {
                let mut info = NodeInfo::new(node);
                for pod in self.homeless.remove(&info.name).unwrap_or_default() {
                    info.add_pod(pod);
                }
                self.generation += 1;
                info.generation = self.generation;
                self.count_images(None, Some(&info));
                Arc::make_mut(&mut self.by_name).insert(info.name.clone(), self.nodes.len());
                self.nodes.push(Arc::new(info));
                self.reshaped = true;
            }
        }
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        let by_name = Arc::make_mut(&mut self.by_name);
        let Some(at) = by_name.remove(name) else { return };
        let gone = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            by_name.insert(moved.name.clone(), at);
        }
        self.reshaped = true;
        self.count_images(Some(&gone), None);
        if !gone.pods.is_empty() {
            self.homeless.insert(gone.name.clone(), gone.pods.clone());
        }
    }

    /// Counts a pod on the node that it names, in place of any older state of it, which is given back.
    pub(crate) fn upsert_pod(&mut self, pod: &Arc<Pod>) -> (Option<Arc<PodInfo>>, Arc<PodInfo>) {
        let old = self.remove_pod(pod.uid());
        let info = Arc::new(PodInfo::new(pod.clone()));
        self.place(info.clone(), node_name(pod));
        (old, info)
    }

    /// Counts a pod on a node before it is bound.
    pub(crate) fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.place(pod, node);
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        let known = self.by_name.get_key_value(node).map(|(name, at)| (name.clone(), *at));
        let (name, at) = known.map_or_else(|| (node.into(), None), |(name, at)| (name, Some(at)));
        self.placed.insert(pod.uid.clone(), name.clone());
        match at {
            Some(at) => self.touch(at).add_pod(pod),
            None => self.homeless.entry(name).or_default().push(pod),
        }
    }

    /// Takes a pod off its node.
    pub(crate) fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let node = self.placed.remove(uid)?;
        match self.by_name.get(&node).copied() {
            Some(at) => self.touch(at).remove_pod(uid),
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

    /// Takes an assumed pod off its node, unless it turned out to be bound meanwhile, by this or another hand.
    pub(crate) fn forget(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let node = self.placed.get(uid)?;
        let pods = match self.by_name.get(node) {
            Some(at) => &self.nodes[*at].pods,
            None => self.homeless.get(node)?,
        };
        let assumed = pods.iter().any(|p| p.uid == uid && p.node_name().is_empty());
        if assumed { self.remove_pod(uid) } else { None }
    }

    /// Whether the pod counts on a node already.
    pub(crate) fn is_placed(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// How many nodes and pods there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.nodes.len(), self.placed.len())
    }
}

#[cfg(test)]
mod tests;
