//! NodeName: a pod that names its node goes nowhere else.

use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use api::Kind;

pub(crate) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER)
    }

    fn wakes_on(&self) -> u64 {
        kind::NODE_ADD
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        !matches!(&event.subject, Subject::Node { new: Some(node), .. } if node.name() != pod.node_name())
    }

    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: CycleView<'_>) -> PreFilter {
        if pod.node_name().is_empty() { PreFilter::Skip } else { PreFilter::All }
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: CycleView<'_>) -> Option<Status> {
        let wanted = pod.node_name();
        (!wanted.is_empty() && *node.name != *wanted)
            .then(|| Status::unresolvable("node(s) didn't match the requested node name"))
    }
}
