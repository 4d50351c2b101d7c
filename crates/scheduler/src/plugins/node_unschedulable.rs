//! NodeUnschedulable: cordoned nodes take no pods, unless these tolerate it.

use api::k8s::core::v1::{Node, Taint};
use component_helpers::tolerations::tolerates;

use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

pub(crate) struct NodeUnschedulable;

fn fits(pod: &PodInfo, node: &Node) -> bool {
    if node.spec.as_ref().and_then(|s| s.unschedulable) != Some(true) {
        return true;
    }
    let taint =
        Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
    pod.tolerations().iter().any(|t| tolerates(t, &taint))
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> Points {
        Points::FILTER
    }

    fn wakes_on(&self) -> u64 {
        kind::NODE_ADD | kind::NODE_TAINT | kind::POD_TOLERATIONS
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match &event.subject {
            Subject::Node { new: Some(node), .. } => fits(pod, node),
            Subject::Pod { new: Some(new), .. } => new.uid == pod.uid,
            _ => true,
        }
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: CycleView<'_>) -> Option<Status> {
        (node.unschedulable && !fits(pod, &node.node)).then(|| Status::unresolvable("node(s) were unschedulable"))
    }
}
