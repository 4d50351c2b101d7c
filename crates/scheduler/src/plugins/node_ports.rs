//! NodePorts: host ports are free on the node.

use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

pub(crate) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn wakes_on(&self) -> u64 {
        kind::POD_DELETE | kind::NODE_ADD
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        let Subject::Pod { old: Some(gone), .. } = &event.subject else { return true };
        gone.host_ports.iter().any(|freed| pod.host_ports.iter().any(|want| want.conflicts(freed)))
    }

    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: CycleView<'_>) -> PreFilter {
        if pod.host_ports.is_empty() { PreFilter::Skip } else { PreFilter::All }
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: CycleView<'_>) -> Option<Status> {
        let taken = pod.host_ports.iter().any(|want| node.ports.iter().any(|used| want.conflicts(used)));
        taken.then(|| Status::unschedulable("node(s) didn't have free ports for the requested pod ports"))
    }
}
