//! InterPodAffinity: pods that must be, must not be, or like to be near other pods. Anti-affinity is symmetric: a pod on a
//! node keeps away those that it names.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Namespace, Node, Pod};
use informer::Informer;

use crate::affinity::{Term, Weighted, matches_all};
use crate::config::args::InterPodAffinityArgs;
use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, MAX_NODE_SCORE, Plugin, Points, PreFilter, Status};
use crate::handle::Handle;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;
use crate::tally::{Share, Sums, Tallies};

type Labels = std::collections::BTreeMap<String, String>;

pub(crate) struct InterPodAffinity {
    args: InterPodAffinityArgs,
    namespaces: Informer<Namespace>,
    tallies: Tallies<Question>,
}

/// A question about all pods on nodes; equal ones have equal answers.
#[derive(PartialEq)]
enum Question {
    /// Pods that are meant by all of the terms, counted for each.
    Near(Vec<Term>),
    /// Pods that are meant by any of the terms, counted for it.
    Apart(Vec<Term>),
    /// Terms of pods that keep such a pod away.
    Against(Asker),
    /// Likings between such a pod and those on the nodes.
    Score(Asker, Vec<Weighted>),
}

/// What others' terms see of a pod.
#[derive(PartialEq)]
struct Asker {
    namespace: String,
    namespace_labels: Labels,
    pod: Arc<Pod>,
}

impl Asker {
    fn new(pod: &PodInfo, namespace_labels: Labels) -> Self {
        // Only what terms look at, so that pods of one template are alike.
        let mut seen = Pod::default();
        seen.metadata.labels.clone_from(&pod.pod.metadata.labels);
        seen.metadata.namespace.clone_from(&pod.pod.metadata.namespace);
        Self { namespace: pod.pod.namespace().to_owned(), namespace_labels, pod: Arc::new(seen) }
    }
}

fn put(share: &mut Share, key: &Arc<str>, amount: i64) {
    match share.iter_mut().find(|(known, _)| known == key) {
        Some((_, sum)) => *sum += amount,
        None => share.push((key.clone(), amount)),
    }
}

/// What a node adds to a question.
fn share_of(question: &Question, node: &NodeInfo, hard: i64) -> Share {
    let mut share = Share::new();
    match question {
        Question::Near(terms) => {
            let count = node.pods.iter().filter(|other| matches_all(terms, &other.pod)).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            if count > 0 {
                terms.iter().for_each(|term| put(&mut share, &term.topology_key, count));
            }
        }
        Question::Apart(terms) => {
            for other in &node.pods {
                for term in terms.iter().filter(|term| term.matches(&other.pod, None)) {
                    put(&mut share, &term.topology_key, 1);
                }
            }
        }
        Question::Against(asker) => {
            for term in node.pods.iter().flat_map(|other| other.required_anti_terms()) {
                if term.matches(&asker.pod, Some(&asker.namespace_labels)) {
                    put(&mut share, &term.topology_key, 1);
                }
            }
        }
        Question::Score(asker, own) => {
            for other in node.pods.iter().filter(|p| !own.is_empty() || p.affinity.is_some()) {
                score_pod(asker, own, other, hard, &mut share);
            }
        }
    }
    share
}

/// What one pod on a node adds to the scores of the node's surroundings.
fn score_pod(asker: &Asker, own: &[Weighted], other: &PodInfo, hard: i64, share: &mut Share) {
    let mut add = |matches: bool, term: &Term, weight: i64| {
        if matches {
            put(share, &term.topology_key, weight);
        }
    };
    let meant = |term: &Term| term.matches(&asker.pod, Some(&asker.namespace_labels));
    own.iter().for_each(|w| add(w.term.matches(&other.pod, None), &w.term, w.weight));
    if hard > 0 {
        other.required_terms().iter().for_each(|term| add(meant(term), term, hard));
    }
    other.preferred_terms().iter().for_each(|w| add(meant(&w.term), &w.term, w.weight));
    other.preferred_anti_terms().iter().for_each(|w| add(meant(&w.term), &w.term, -w.weight));
}

/// What Filter needs.
#[derive(Clone)]
struct Prepared {
    /// The pod's own terms, resolved: they match without the labels of namespaces.
    required: Vec<Term>,
    required_anti: Vec<Term>,
    namespace_labels: Labels,
    /// Topology in which pods are that keep the pod away.
    against: Sums,
    /// Topology in which pods are that the pod needs, and that it keeps away from.
    near: Sums,
    apart: Sums,
}

impl Prepared {
    fn count(&mut self, pod: &Pod, other: &PodInfo, node: &Node, by: i64, snapshot: &Snapshot) {
        let add = |sums: &mut Sums, term: &Term| {
            if let Some(value) = node.label(&term.topology_key) {
                sums.add(&term.topology_key, value, by, snapshot);
            }
        };
        for term in other.required_anti_terms() {
            if term.matches(pod, Some(&self.namespace_labels)) {
                add(&mut self.against, term);
            }
        }
        if matches_all(&self.required, &other.pod) {
            self.required.iter().for_each(|term| add(&mut self.near, term));
        }
        for term in self.required_anti.iter().filter(|term| term.matches(&other.pod, None)) {
            add(&mut self.apart, term);
        }
    }

    fn has_near(&self, pod: &Pod, node: &Node) -> bool {
        let mut there = true;
        for term in &self.required {
            let Some(value) = node.label(&term.topology_key) else { return false };
            there &= self.near.get(&term.topology_key, value) > 0;
        }
        // The first of a group whose pods want to be near each other may go anywhere.
        there || (self.near.is_empty() && matches_all(&self.required, pod))
    }

    fn is_apart(&self, node: &Node) -> bool {
        let taken = |term: &Term| {
            node.label(&term.topology_key).is_some_and(|value| self.apart.get(&term.topology_key, value) > 0)
        };
        !self.required_anti.iter().any(taken)
    }

    fn is_welcome(&self, node: &Node) -> bool {
        let unwelcome = |key: &str| node.label(key).is_some_and(|value| self.against.get(key, value) > 0);
        self.against.is_empty() || !self.against.keys().any(unwelcome)
    }
}

impl InterPodAffinity {
    pub(crate) fn new(args: InterPodAffinityArgs, handle: &Handle) -> Self {
        Self { args, namespaces: handle.factory.informer(), tallies: Tallies::default() }
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

    fn sums(&self, question: Question, snapshot: &Snapshot) -> Sums {
        let hard = i64::from(self.args.hard_pod_affinity_weight);
        let shares = self.tallies.shares(question, snapshot.nodes(), |question, node| share_of(question, node, hard));
        Sums::of(&shares, snapshot)
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
        let own = !pod.required_terms().is_empty() || !pod.required_anti_terms().is_empty();
        let keeping_away = view.snapshot.has_anti_affinity();
        if !own && !keeping_away {
            return PreFilter::Skip;
        }
        let namespace_labels = self.labels_of(pod.pod.namespace());
        let mut prepared = Prepared {
            required: self.resolved(pod.required_terms()),
            required_anti: self.resolved(pod.required_anti_terms()),
            namespace_labels,
            against: Sums::default(),
            near: Sums::default(),
            apart: Sums::default(),
        };
        if keeping_away {
            let asker = Asker::new(pod, prepared.namespace_labels.clone());
            prepared.against = self.sums(Question::Against(asker), view.snapshot);
        }
        if !prepared.required.is_empty() {
            prepared.near = self.sums(Question::Near(prepared.required.clone()), view.snapshot);
        }
        if !prepared.required_anti.is_empty() {
            prepared.apart = self.sums(Question::Apart(prepared.required_anti.clone()), view.snapshot);
        }
        if !own && prepared.against.is_empty() {
            return PreFilter::Skip;
        }
        state.put(view.plugin, prepared);
        PreFilter::All
    }

    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, added: &PodInfo, node: &NodeInfo, view: CycleView<'_>) {
        if let Some(prepared) = state.get_mut::<Prepared>(view.plugin) {
            prepared.count(&pod.pod, added, &node.node, 1, view.snapshot);
        }
    }

    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, gone: &PodInfo, node: &NodeInfo, view: CycleView<'_>) {
        if let Some(prepared) = state.get_mut::<Prepared>(view.plugin) {
            prepared.count(&pod.pod, gone, &node.node, -1, view.snapshot);
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
        let away = |w: &Weighted| Weighted { term: w.term.clone(), weight: -w.weight };
        let mut own = pod.preferred_terms().to_vec();
        own.extend(pod.preferred_anti_terms().iter().map(away));
        if own.is_empty() && (self.args.ignore_preferred_terms_of_existing_pods || !view.snapshot.has_affinity()) {
            return false;
        }
        own.iter_mut().for_each(|w| self.resolve(&mut w.term));
        let asker = Asker::new(pod, self.labels_of(pod.pod.namespace()));
        let scores = self.sums(Question::Score(asker, own), view.snapshot);
        if scores.is_empty() {
            return false;
        }
        state.put_score(view.plugin, scores);
        true
    }

    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        let Some(scores) = state.get_score::<Sums>(view.plugin) else { return 0 };
        scores.keys().filter_map(|key| Some(scores.get(key, node.node.label(key)?))).sum()
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

#[cfg(test)]
mod tests;
