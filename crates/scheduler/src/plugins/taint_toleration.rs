//! TaintToleration: pods keep off taints that they do not tolerate.

use component_helpers::tolerations::{tolerates, untolerated};

use crate::events::{ClusterEvent, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, Status, default_normalize};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

pub(crate) struct TaintToleration;

fn tolerations(pod: &PodInfo) -> &[api::k8s::core::v1::Toleration] {
    pod.pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default()
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> Points {
        Points::FILTER.and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn wakes_on(&self) -> u32 {
        kind::NODE_ADD | kind::NODE_TAINT | kind::POD_UPDATE
    }

    fn hint(&self, pod: &PodInfo, _: &ClusterEvent, node: Option<&NodeInfo>) -> bool {
        node.is_none_or(|n| untolerated(n.taints(), tolerations(pod), &["NoSchedule", "NoExecute"]).is_none())
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &CycleView<'_>) -> Option<Status> {
        let taint = untolerated(node.taints(), tolerations(pod), &["NoSchedule", "NoExecute"])?;
        let value = taint.value.as_deref().unwrap_or_default();
        Some(Status::unresolvable(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)))
    }

    fn pre_score(&self, _: &mut CycleState, _: &PodInfo, view: &CycleView<'_>) -> bool {
        view.nodes.iter().any(|n| n.taints().iter().any(|t| t.effect == "PreferNoSchedule"))
    }

    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &CycleView<'_>) -> i64 {
        let soft = node.taints().iter().filter(|t| t.effect == "PreferNoSchedule");
        let hurting = soft.filter(|taint| !tolerations(pod).iter().any(|t| tolerates(t, taint)));
        i64::try_from(hurting.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        default_normalize(scores, true);
    }
}
