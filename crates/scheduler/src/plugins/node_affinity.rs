//! NodeAffinity: node selectors, required and preferred node affinity; and the affinity that a profile adds to all pods.

use api::k8s::core::v1::{Node, NodeAffinity as Terms, PreferredSchedulingTerm};
use component_helpers::node_affinity::{Term, terms};
use rt::HashSet;

use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status, default_normalize};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// See the module.
#[derive(Default)]
pub(crate) struct NodeAffinity {
    added: Option<Vec<Term>>,
    preferred: Vec<(Term, i64)>,
}

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

#[derive(Clone)]
struct Preferred(Vec<(Term, i64)>);

fn compile(terms: Option<&[PreferredSchedulingTerm]>) -> Vec<(Term, i64)> {
    terms.unwrap_or_default().iter().map(|t| (Term::new(&t.preference), i64::from(t.weight))).collect()
}

fn preferred(pod: &PodInfo) -> Vec<(Term, i64)> {
    let affinity = pod.pod.spec.as_ref().and_then(|s| s.affinity.as_ref()).and_then(|a| a.node_affinity.as_ref());
    compile(affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref()))
}

/// The nodes that the pod's terms name by field: none when a term names no nodes.
fn named(pod: &PodInfo) -> Option<HashSet<String>> {
    let affinity = pod.pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    if required.node_selector_terms.is_empty() {
        return None;
    }
    let mut all = HashSet::default();
    for term in &required.node_selector_terms {
        let fields = term.match_fields.iter().flatten().filter(|f| f.key == "metadata.name" && f.operator == "In");
        let mut of_term: Option<HashSet<String>> = None;
        for field in fields {
            let values: HashSet<String> = field.values.iter().flatten().cloned().collect();
            of_term = Some(match of_term {
                None => values,
                Some(before) => before.into_iter().filter(|name| values.contains(name)).collect(),
            });
        }
        all.extend(of_term?);
    }
    Some(all)
}

impl NodeAffinity {
    /// With the affinity that the profile adds.
    pub(crate) fn new(added: Option<&Terms>) -> Self {
        let required = added.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        Self {
            added: required.map(terms),
            preferred: compile(added.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_deref())),
        }
    }

    fn added_matches(&self, node: &Node) -> bool {
        self.added.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER).and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn wakes_on(&self) -> u64 {
        kind::NODE_ADD | kind::NODE_LABEL
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        let Subject::Node { old, new: Some(new) } = &event.subject else { return true };
        self.added_matches(new)
            && pod.required.matches(new)
            && old.as_ref().is_none_or(|old| !pod.required.matches(old) || !self.added_matches(old))
    }

    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: CycleView<'_>) -> PreFilter {
        if pod.required.is_empty() && self.added.is_none() {
            return PreFilter::Skip;
        }
        match named(pod) {
            None => PreFilter::All,
            Some(names) if names.is_empty() => PreFilter::Reject(Status::unresolvable("pod affinity terms conflict")),
            Some(names) => PreFilter::Nodes(names),
        }
    }

    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo, _: CycleView<'_>) -> Option<Status> {
        if !self.added_matches(&node.node) {
            return Some(Status::unresolvable("node(s) didn't match scheduler-enforced node affinity"));
        }
        (!pod.required.matches(&node.node)).then(|| Status::unresolvable(REASON))
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, _: &[usize], view: CycleView<'_>) -> bool {
        let terms = preferred(pod);
        let any = !terms.is_empty() || !self.preferred.is_empty();
        if any {
            state.put_score(view.plugin, Preferred(terms));
        }
        any
    }

    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        let Some(Preferred(terms)) = state.get_score(view.plugin) else { return 0 };
        let all = terms.iter().chain(&self.preferred);
        all.filter(|(term, _)| term.matches(&node.node)).map(|(_, weight)| weight).sum()
    }

    fn normalize(&self, _: &CycleState, scores: &mut [i64], _: &[usize], _: CycleView<'_>) {
        default_normalize(scores, false);
    }
}
