//! Pods that wait for a place on a node which preemption makes for them.

use std::sync::Arc;

use parking_lot::Mutex;
use rt::HashMap;

use crate::pod_info::PodInfo;

#[derive(Default)]
struct State {
    nodes: HashMap<String, Vec<Arc<PodInfo>>>,
    node_of: HashMap<String, String>,
}

impl State {
    fn remove(&mut self, uid: &str) {
        let Some(node) = self.node_of.remove(uid) else { return };
        if let Some(pods) = self.nodes.get_mut(&node) {
            pods.retain(|p| p.uid != uid);
            if pods.is_empty() {
                self.nodes.remove(&node);
            }
        }
    }
}

/// Nominated pods by node. While a pod is nominated, its place is kept from pods of lower or equal priority.
#[derive(Default)]
pub(crate) struct Nominator(Mutex<State>);

impl Nominator {
    /// Nominates a pod for a node, in place of another.
    pub(crate) fn nominate(&self, pod: &Arc<PodInfo>, node: &str) {
        let mut state = self.0.lock();
        state.remove(&pod.uid);
        if !node.is_empty() {
            state.node_of.insert(pod.uid.clone(), node.to_owned());
            state.nodes.entry(node.to_owned()).or_default().push(pod.clone());
        }
    }

    /// Takes over the newest state of a waiting pod. What its status says counts; where it says nothing, and said nothing
    /// before, a nomination that is not written yet stays.
    pub(crate) fn refresh(&self, pod: &Arc<PodInfo>, before: &str) {
        let named = pod.nominated();
        if !named.is_empty() {
            self.nominate(pod, named);
        } else if !before.is_empty() {
            self.remove(&pod.uid);
        } else {
            let node = self.0.lock().node_of.get(&pod.uid).cloned();
            if let Some(node) = node {
                self.nominate(pod, &node);
            }
        }
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// The pods nominated for a node.
    pub(crate) fn on(&self, node: &str) -> Vec<Arc<PodInfo>> {
        self.0.lock().nodes.get(node).cloned().unwrap_or_default()
    }

    /// Whether nothing is nominated.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().node_of.is_empty()
    }
}
