//! NodeUnschedulable: cordoned nodes take no pods, unless these tolerate it.

use api::k8s::core::v1::Taint;
use component_helpers::tolerations::tolerates;

use crate::events::{ClusterEvent, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

pub(crate) struct NodeUnschedulable;

fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    if node.node.spec.as_ref().and_then(|s| s.unschedulable) != Some(true) {
        return true;
    }
    let taint =
        Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() };
    let tolerations = pod.pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|t| tolerates(t, &taint))
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(&self) -> Points {
        Points::FILTER
    }

    fn wakes_on(&self) -> u32 {
        kind::NODE_ADD | kind::NODE_TAINT | kind::POD_UPDATE
    }

    fn hint(&self, pod: &PodInfo, _: &ClusterEvent, node: Option<&NodeInfo>) -> bool {
        node.is_none_or(|node| fits(pod, node))
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &CycleView<'_>) -> Option<Status> {
        (!fits(pod, node)).then(|| Status::unresolvable("node(s) were unschedulable"))
    }
}
