//! NodeAffinity: node selectors, required and preferred node affinity.

use component_helpers::node_affinity::Term;

use crate::events::{ClusterEvent, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status, default_normalize};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

pub(crate) struct NodeAffinity;

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

struct Preferred(Vec<(Term, i64)>);

fn preferred(pod: &PodInfo) -> Vec<(Term, i64)> {
    let affinity = pod.pod.spec.as_ref().and_then(|s| s.affinity.as_ref()).and_then(|a| a.node_affinity.as_ref());
    let terms = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref());
    terms.unwrap_or_default().iter().map(|t| (Term::new(&t.preference), i64::from(t.weight))).collect()
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER).and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn wakes_on(&self) -> u32 {
        kind::NODE_ADD | kind::NODE_LABEL | kind::POD_UPDATE
    }

    fn hint(&self, pod: &PodInfo, _: &ClusterEvent, node: Option<&NodeInfo>) -> bool {
        node.is_none_or(|node| pod.required.matches(&node.node))
    }

    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &CycleView<'_>) -> PreFilter {
        if pod.required.is_empty() {
            return PreFilter::Skip;
        }
        match pod.required.node_names() {
            Some(names) => PreFilter::Nodes(names.into_iter().map(str::to_owned).collect()),
            None => PreFilter::All,
        }
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: &CycleView<'_>) -> Option<Status> {
        (!pod.required.matches(&node.node)).then(|| Status::unresolvable(REASON))
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, view: &CycleView<'_>) -> bool {
        let terms = preferred(pod);
        let any = !terms.is_empty();
        state.put(view.plugin, Preferred(terms));
        any
    }

    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: &CycleView<'_>) -> i64 {
        let Some(Preferred(terms)) = state.get(view.plugin) else { return 0 };
        terms.iter().filter(|(term, _)| term.matches(&node.node)).map(|(_, weight)| weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        default_normalize(scores, false);
    }
}
