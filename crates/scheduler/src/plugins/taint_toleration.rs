//! TaintToleration: pods keep off taints that they do not tolerate.

use api::k8s::core::v1::Toleration;
use component_helpers::tolerations::{tolerates, untolerated};

use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, Status, default_normalize};
use crate::node_info::{NodeInfo, taints};
use crate::pod_info::PodInfo;

pub(crate) struct TaintToleration;

const HARD: [&str; 2] = ["NoSchedule", "NoExecute"];

/// The pod's tolerations that soft taints are held against.
#[derive(Clone)]
struct Soft(Vec<Toleration>);

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> Points {
        Points::FILTER.and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn wakes_on(&self) -> u64 {
        kind::NODE_ADD | kind::NODE_TAINT | kind::POD_TOLERATIONS
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match &event.subject {
            Subject::Node { new: Some(node), .. } => untolerated(taints(node), pod.tolerations(), &HARD).is_none(),
            Subject::Pod { new: Some(new), .. } => new.uid == pod.uid,
            _ => true,
        }
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: CycleView<'_>) -> Option<Status> {
        if !node.hard_taints {
            return None;
        }
        untolerated(node.taints(), pod.tolerations(), &HARD)?;
        Some(Status::unresolvable("node(s) had untolerated taint(s)"))
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, feasible: &[usize], view: CycleView<'_>) -> bool {
        let nodes = view.snapshot.nodes();
        if !feasible.iter().any(|at| nodes[*at].soft_taints) {
            // All nodes are alike.
            return false;
        }
        let soft = |t: &&Toleration| t.effect.as_deref().is_none_or(|e| e.is_empty() || e == "PreferNoSchedule");
        state.put_score(view.plugin, Soft(pod.tolerations().iter().filter(soft).cloned().collect()));
        true
    }

    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        let Some(Soft(tolerations)) = state.get_score(view.plugin) else { return 0 };
        if !node.soft_taints {
            return 0;
        }
        let soft = node.taints().iter().filter(|t| t.effect == "PreferNoSchedule");
        let hurting = soft.filter(|taint| !tolerations.iter().any(|t| tolerates(t, taint)));
        i64::try_from(hurting.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _: &CycleState, scores: &mut [i64], _: &[usize], _: CycleView<'_>) {
        default_normalize(scores, true);
    }
}
