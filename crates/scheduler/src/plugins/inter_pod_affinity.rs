//! InterPodAffinity: pods that must be, must not be, or like to be near other pods. Anti-affinity is symmetric: a pod on a
//! node keeps away those that it names.

mod counts;

use api::Kind;
use api::k8s::core::v1::{Namespace, Node, Pod};
use informer::Informer;
use rt::HashMap;

use self::counts::{Counts, Scores};
use crate::affinity::{Affinity, Term, matches_all};
use crate::config::args::InterPodAffinityArgs;
use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, MAX_NODE_SCORE, Plugin, Points, PreFilter, Status};
use crate::handle::Handle;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

type Labels = std::collections::BTreeMap<String, String>;

pub(crate) struct InterPodAffinity {
    args: InterPodAffinityArgs,
    namespaces: Informer<Namespace>,
}

/// What Filter needs.
#[derive(Clone)]
struct Prepared {
    /// The pod's own terms, resolved: they match without the labels of namespaces.
    required: Vec<Term>,
    required_anti: Vec<Term>,
    namespace_labels: Labels,
    /// Topology in which pods are that keep the pod away.
    against: Counts,
    /// Topology in which pods are that the pod needs, and that it keeps away from.
    near: Counts,
    apart: Counts,
}

impl Prepared {
    fn count(&mut self, pod: &Pod, other: &PodInfo, node: &Node, by: i64) {
        for term in other.required_anti_terms() {
            if term.matches(pod, Some(&self.namespace_labels)) {
                self.against.add(node, &term.topology_key, by);
            }
        }
        if matches_all(&self.required, &other.pod) {
            for term in &self.required {
                self.near.add(node, &term.topology_key, by);
            }
        }
        for term in &self.required_anti {
            if term.matches(&other.pod, None) {
                self.apart.add(node, &term.topology_key, by);
            }
        }
    }

    fn has_near(&self, pod: &Pod, node: &Node) -> bool {
        let mut there = true;
        for term in &self.required {
            let Some(value) = node.label(&term.topology_key) else { return false };
            there &= self.near.has(&term.topology_key, value);
        }
        // The first of a group whose pods want to be near each other may go anywhere.
        there || (self.near.is_empty() && matches_all(&self.required, pod))
    }

    fn is_apart(&self, node: &Node) -> bool {
        !self
            .required_anti
            .iter()
            .any(|term| node.label(&term.topology_key).is_some_and(|value| self.apart.has(&term.topology_key, value)))
    }

    fn is_welcome(&self, node: &Node) -> bool {
        self.against.is_empty() || !node.labels().iter().any(|(key, value)| self.against.has(key, value))
    }
}

impl InterPodAffinity {
    pub(crate) fn new(args: InterPodAffinityArgs, handle: &Handle) -> Self {
        Self { args, namespaces: handle.factory.informer() }
    }

    fn labels_of(&self, namespace: &str) -> Labels {
        self.namespaces.cache().get_key(namespace).map(|ns| ns.labels().clone()).unwrap_or_default()
    }

    fn resolve(&self, term: &mut Term) {
        if term.needs_namespaces() {
            let all = self.namespaces.cache().list();
            let chosen: Vec<String> =
                all.iter().filter(|ns| term.selects_namespace(ns.labels())).map(|ns| ns.name().to_owned()).collect();
            term.resolve(chosen.into_iter());
        }
    }

    fn resolved(&self, terms: &[Term]) -> Vec<Term> {
        let mut terms = terms.to_vec();
        terms.iter_mut().for_each(|term| self.resolve(term));
        terms
    }

    /// What one pod on a node adds to the scores of the node's surroundings.
    fn score_pod(&self, own: &Affinity, labels: &Labels, pod: &Pod, other: &PodInfo, node: &Node, scores: &mut Scores) {
        for w in &own.preferred {
            scores.add_if(w.term.matches(&other.pod, None), node, &w.term.topology_key, w.weight);
        }
        for w in &own.preferred_anti {
            scores.add_if(w.term.matches(&other.pod, None), node, &w.term.topology_key, -w.weight);
        }
        let hard = i64::from(self.args.hard_pod_affinity_weight);
        if hard > 0 {
            for term in other.required_terms() {
                scores.add_if(term.matches(pod, Some(labels)), node, &term.topology_key, hard);
            }
        }
        for w in other.preferred_terms() {
            scores.add_if(w.term.matches(pod, Some(labels)), node, &w.term.topology_key, w.weight);
        }
        for w in other.preferred_anti_terms() {
            scores.add_if(w.term.matches(pod, Some(labels)), node, &w.term.topology_key, -w.weight);
        }
    }
}

/// A change of a pod on a node.
fn hint_for_pod(pod: &PodInfo, terms: &[Term], anti: &[Term], old: Option<&PodInfo>, new: Option<&PodInfo>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            new.uid == pod.uid
                || (!matches_all(terms, &old.pod) && matches_all(terms, &new.pod))
                || (matches_all(anti, &old.pod) && !matches_all(anti, &new.pod))
        }
        (None, Some(new)) => matches_all(terms, &new.pod),
        (Some(old), None) => matches_all(anti, &old.pod) || matches_all(old.required_anti_terms(), &pod.pod),
        (None, None) => true,
    }
}

/// A change of a node.
fn hint_for_node(terms: &[Term], anti: &[Term], old: Option<&Node>, new: &Node) -> bool {
    let changed = |term: &Term| {
        let (before, after) = (old.and_then(|n| n.label(&term.topology_key)), new.label(&term.topology_key));
        (before, after, before != after)
    };
    let near = terms.iter().any(|term| {
        let (_, after, differs) = changed(term);
        after.is_some() && differs
    });
    let apart = anti.iter().any(|term| match old {
        None => true,
        Some(_) => {
            let (before, _, differs) = changed(term);
            before.is_some() && differs
        }
    });
    // Pods without terms were rejected by others' anti-affinity, which a new node may not know.
    near || apart || (terms.is_empty() && anti.is_empty() && old.is_none())
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER).and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn wakes_on(&self) -> u64 {
        kind::POD_ADD | kind::POD_LABEL | kind::POD_DELETE | kind::NODE_ADD | kind::NODE_LABEL
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        let (terms, anti) = (self.resolved(pod.required_terms()), self.resolved(pod.required_anti_terms()));
        match &event.subject {
            Subject::Pod { old, new } => hint_for_pod(pod, &terms, &anti, old.as_deref(), new.as_deref()),
            Subject::Node { old, new: Some(new) } => hint_for_node(&terms, &anti, old.as_deref(), new),
            _ => true,
        }
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, view: CycleView<'_>) -> PreFilter {
        let own = pod.affinity.as_ref().is_some_and(|a| !a.required.is_empty() || !a.required_anti.is_empty());
        let mut prepared = Prepared {
            required: self.resolved(pod.required_terms()),
            required_anti: self.resolved(pod.required_anti_terms()),
            namespace_labels: Labels::new(),
            against: Counts::default(),
            near: Counts::default(),
            apart: Counts::default(),
        };
        let mut others = view.snapshot.with_anti_affinity().peekable();
        if !own && others.peek().is_none() {
            return PreFilter::Skip;
        }
        prepared.namespace_labels = self.labels_of(pod.pod.namespace());
        if own {
            for node in view.snapshot.nodes() {
                for other in &node.pods {
                    prepared.count(&pod.pod, other, &node.node, 1);
                }
            }
        } else {
            for node in others {
                for other in node.pods.iter().filter(|p| p.has_required_anti_affinity()) {
                    prepared.count(&pod.pod, other, &node.node, 1);
                }
            }
        }
        if !own && prepared.against.is_empty() {
            return PreFilter::Skip;
        }
        state.put(view.plugin, prepared);
        PreFilter::All
    }

    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, added: &PodInfo, node: &NodeInfo, view: CycleView<'_>) {
        if let Some(prepared) = state.get_mut::<Prepared>(view.plugin) {
            prepared.count(&pod.pod, added, &node.node, 1);
        }
    }

    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, gone: &PodInfo, node: &NodeInfo, view: CycleView<'_>) {
        if let Some(prepared) = state.get_mut::<Prepared>(view.plugin) {
            prepared.count(&pod.pod, gone, &node.node, -1);
        }
    }

    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        let prepared = state.get::<Prepared>(view.plugin)?;
        if !prepared.has_near(&pod.pod, &node.node) {
            return Some(Status::unresolvable("node(s) didn't match pod affinity rules"));
        }
        if !prepared.is_apart(&node.node) {
            return Some(Status::unschedulable("node(s) didn't match pod anti-affinity rules"));
        }
        (!prepared.is_welcome(&node.node))
            .then(|| Status::unschedulable("node(s) didn't satisfy existing pods anti-affinity rules"))
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, _: &[usize], view: CycleView<'_>) -> bool {
        let mut own = pod.affinity.as_deref().cloned().unwrap_or_default();
        let any = !own.preferred.is_empty() || !own.preferred_anti.is_empty();
        if !any && self.args.ignore_preferred_terms_of_existing_pods {
            return false;
        }
        own.preferred.iter_mut().chain(&mut own.preferred_anti).for_each(|w| self.resolve(&mut w.term));
        let labels = self.labels_of(pod.pod.namespace());
        let mut scores = Scores::default();
        let mut add = |node: &NodeInfo| {
            for other in node.pods.iter().filter(|p| any || p.affinity.is_some()) {
                self.score_pod(&own, &labels, &pod.pod, other, &node.node, &mut scores);
            }
        };
        if any {
            view.snapshot.nodes().iter().for_each(|node| add(node));
        } else {
            view.snapshot.with_affinity().for_each(|node| add(node));
        }
        if scores.is_empty() {
            return false;
        }
        state.put_score(view.plugin, scores);
        true
    }

    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        state.get_score::<Scores>(view.plugin).map_or(0, |scores| scores.of(&node.node))
    }

    fn normalize(&self, _: &CycleState, scores: &mut [i64], _: &[usize], _: CycleView<'_>) {
        let (Some(least), Some(most)) = (scores.iter().copied().min(), scores.iter().copied().max()) else { return };
        let span = most - least;
        for score in scores {
            *score =
                if span > 0 { (MAX_NODE_SCORE as f64 * ((*score - least) as f64 / span as f64)) as i64 } else { 0 };
        }
    }
}

/// By key and value of the topology.
pub(super) type ByTopology = HashMap<String, HashMap<String, i64>>;

#[cfg(test)]
mod tests;
