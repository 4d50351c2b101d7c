//! NodeName: a pod that names its node goes nowhere else.

use crate::events::kind;
use crate::framework::{CycleState, CycleView, Plugin, Points, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

pub(crate) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(&self) -> Points {
        Points::FILTER
    }

    fn wakes_on(&self) -> u32 {
        kind::NODE_ADD
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &CycleView<'_>) -> Option<Status> {
        let named = pod.node_name();
        (!named.is_empty() && named != node.name)
            .then(|| Status::unresolvable("node(s) didn't match the requested node name"))
    }
}
