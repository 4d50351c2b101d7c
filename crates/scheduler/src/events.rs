//! What happened in the cluster that may make a pod fit.

use std::sync::Arc;

use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// A kind of event, one bit each, so that plugins name the set they wait for.
pub mod kind {
    #![allow(missing_docs, reason = "upstream's ActionTypes; the names say it all")]
    pub const NODE_ADD: u32 = 1;
    pub const NODE_ALLOCATABLE: u32 = 1 << 1;
    pub const NODE_LABEL: u32 = 1 << 2;
    pub const NODE_TAINT: u32 = 1 << 3;
    pub const POD_ADD: u32 = 1 << 5;
    pub const POD_UPDATE: u32 = 1 << 6;
    pub const POD_DELETE: u32 = 1 << 7;
    pub const POD_GATES: u32 = 1 << 8;
}

/// An event with what it is about. Pods here are pods on nodes.
#[derive(Clone)]
pub struct ClusterEvent {
    /// Bits of [`kind`].
    pub kinds: u32,
    /// The pod that came, changed or went.
    pub pod: Option<Arc<PodInfo>>,
    /// The node's name, for node events.
    pub node: Option<String>,
}

impl ClusterEvent {
    pub(crate) fn node(kinds: u32, node: &NodeInfo) -> Self {
        Self { kinds, pod: None, node: Some(node.name.clone()) }
    }

    pub(crate) fn pod(kinds: u32, pod: Arc<PodInfo>) -> Self {
        Self { kinds, pod: Some(pod), node: None }
    }
}
