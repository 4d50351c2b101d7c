//! PodTopologySpread: pods of a group are spread evenly over parts of the topology.

mod constraint;
mod scoring;

use std::sync::Arc;

use api::Kind;
use api::k8s::apps::v1::{ReplicaSet, StatefulSet};
use api::k8s::core::v1::{Node, ReplicationController, Service};
use informer::Informer;
use meta::selector::LabelSelector;

use self::constraint::{Constraint, compile, have_keys};
use self::scoring::Scoring;
use crate::config::args::SpreadArgs;
use crate::events::{ClusterEvent, Subject, kind};
use crate::framework::{CycleState, CycleView, Plugin, Points, PreFilter, Status};
use crate::handle::Handle;
use crate::labels::{from_pairs, selector_of};
use crate::node_info::{NodeInfo, taints};
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;
use crate::tally::{NOWHERE, Share, Tallies, Topology};

const HARD: &str = "DoNotSchedule";
const SOFT: &str = "ScheduleAnyway";

pub(crate) struct PodTopologySpread {
    args: SpreadArgs,
    services: Informer<Service>,
    controllers: Informer<ReplicationController>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    tallies: Tallies<Question>,
    /// Whether pods without constraints get some.
    hard_defaults: bool,
    soft_defaults: bool,
}

/// What Filter needs: for each constraint, the pods that match by value of the topology.
#[derive(Clone)]
struct Prepared {
    constraints: Vec<Constraint>,
    counts: Vec<Counted>,
    /// The smallest of the counts.
    least: Vec<i64>,
}

/// The pods that match by value of the topology; none for values that no counting node has.
#[derive(Clone)]
struct Counted {
    topology: Arc<Topology>,
    by_value: Vec<Option<i64>>,
}

impl Counted {
    fn of(&self, value: &str) -> i64 {
        self.topology.id(value).and_then(|id| self.by_value[id]).unwrap_or(0)
    }
}

/// A question about all pods on nodes: how many match.
#[derive(PartialEq)]
pub(super) struct Question {
    namespace: String,
    selector: LabelSelector,
}

/// How many pods of each node match, kept from cycle to cycle.
pub(super) struct Matching(Arc<Vec<Share>>);

impl Matching {
    pub(super) fn at(&self, place: usize) -> i64 {
        self.0[place].first().map_or(0, |(_, count)| *count)
    }
}

impl Prepared {
    fn settle(&mut self, at: usize) {
        let counts = &self.counts[at];
        let known = counts.by_value.iter().flatten();
        let few =
            i64::try_from(known.clone().count()).unwrap_or(i64::MAX) < i64::from(self.constraints[at].min_domains);
        self.least[at] = if few { 0 } else { known.copied().min().unwrap_or(0) };
    }

    fn change(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        if other.pod.namespace() != pod.pod.namespace()
            || other.pod.is_deleting()
            || !have_keys(&node.node, &self.constraints)
        {
            return;
        }
        for at in 0..self.constraints.len() {
            let constraint = &self.constraints[at];
            if !constraint.selector.matches_map(other.pod.labels()) || !constraint.counts(pod, node) {
                continue;
            }
            let Some(value) = node.node.label(&constraint.key) else { continue };
            let counted = &mut self.counts[at];
            let Some(id) = counted.topology.id(value) else { continue };
            *counted.by_value[id].get_or_insert(0) += by;
            self.settle(at);
        }
    }
}

/// How many of the pods match, those that are going away left out.
fn matching(node: &NodeInfo, selector: &LabelSelector, namespace: &str) -> i64 {
    if selector.is_everything() {
        return 0;
    }
    let counts = |p: &&std::sync::Arc<PodInfo>| {
        p.pod.namespace() == namespace && !p.pod.is_deleting() && selector.matches_map(p.pod.labels())
    };
    i64::try_from(node.pods.iter().filter(counts).count()).unwrap_or(i64::MAX)
}

impl PodTopologySpread {
    pub(crate) fn new(args: SpreadArgs, handle: &Handle) -> Self {
        let any = |action: &str| args.default_constraints.iter().any(|c| c.when_unsatisfiable == action);
        let (hard_defaults, soft_defaults) = (any(HARD), any(SOFT));
        Self {
            args,
            services: handle.factory.informer(),
            controllers: handle.factory.informer(),
            replica_sets: handle.factory.informer(),
            stateful_sets: handle.factory.informer(),
            tallies: Tallies::default(),
            hard_defaults,
            soft_defaults,
        }
    }

    /// The pod's constraints of a kind, or the default ones.
    fn constraints(&self, pod: &PodInfo, action: &str) -> Vec<Constraint> {
        let own = pod.pod.spec.as_ref().and_then(|s| s.topology_spread_constraints.as_deref()).unwrap_or_default();
        if !own.is_empty() {
            return compile(own, pod.pod.labels(), action);
        }
        if (action == HARD && !self.hard_defaults) || (action == SOFT && !self.soft_defaults) {
            return Vec::new();
        }
        let mut defaults = compile(&self.args.default_constraints, pod.pod.labels(), action);
        if !defaults.is_empty() {
            let selector = self.default_selector(pod);
            if selector.is_everything() {
                return Vec::new();
            }
            defaults.iter_mut().for_each(|c| c.selector = selector.clone());
        }
        defaults
    }

    /// What selects the pod's group: Services that select it, and its controller.
    fn default_selector(&self, pod: &PodInfo) -> LabelSelector {
        let (namespace, labels) = (pod.pod.namespace(), pod.pod.labels());
        let mut all = LabelSelector::everything();
        for service in self.services.cache().in_namespace(namespace) {
            let pairs = service.spec.as_ref().and_then(|s| s.selector.as_ref());
            let selector = from_pairs(pairs);
            if pairs.is_some() && selector.matches_map(labels) {
                all.requirements.extend(selector.requirements);
            }
        }
        let Some(owner) = pod.pod.controller_ref() else { return all };
        let of_owner = match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("v1", "ReplicationController") => {
                let found = self.controllers.cache().get(namespace, &owner.name);
                found.map(|c| from_pairs(c.spec.as_ref().and_then(|s| s.selector.as_ref())))
            }
            ("apps/v1", "ReplicaSet") => {
                let found = self.replica_sets.cache().get(namespace, &owner.name);
                found.map(|r| selector_of(r.spec.as_ref().map(|s| &s.selector)))
            }
            ("apps/v1", "StatefulSet") => {
                let found = self.stateful_sets.cache().get(namespace, &owner.name);
                found.map(|s| selector_of(s.spec.as_ref().map(|s| &s.selector)))
            }
            _ => None,
        };
        all.requirements.extend(of_owner.map(|s| s.requirements).unwrap_or_default());
        all
    }

    /// How many pods match a constraint, by node.
    fn matching(&self, constraint: &Constraint, pod: &PodInfo, snapshot: &Snapshot) -> Matching {
        let question = Question { namespace: pod.pod.namespace().to_owned(), selector: constraint.selector.clone() };
        Matching(self.tallies.shares(question, snapshot.nodes(), |question, node| {
            match matching(node, &question.selector, &question.namespace) {
                0 => Vec::new(),
                count => vec![(Arc::default(), count)],
            }
        }))
    }

    fn hint_for_pod(&self, pod: &PodInfo, old: Option<&PodInfo>, new: Option<&PodInfo>) -> bool {
        let involved = |other: &PodInfo| {
            other.uid == pod.uid
                || ((!other.node_name().is_empty() || !other.nominated().is_empty())
                    && other.pod.namespace() == pod.pod.namespace())
        };
        if new.is_some_and(|p| !involved(p))
            || (new.is_none() && old.is_some_and(|p| p.pod.namespace() != pod.pod.namespace()))
        {
            return false;
        }
        let constraints = self.constraints(pod, HARD);
        let matches = |c: &Constraint, p: &PodInfo| c.selector.matches_map(p.pod.labels());
        match (old, new) {
            (Some(old), Some(new)) if old.node_name().is_empty() && !new.node_name().is_empty() => {
                constraints.iter().any(|c| matches(c, new))
            }
            (Some(old), Some(new)) => {
                (new.uid == pod.uid
                    && new.tolerations() != old.tolerations()
                    && constraints.iter().any(|c| c.honors_taints))
                    || constraints.iter().any(|c| matches(c, old) != matches(c, new))
            }
            (one, other) => one.or(other).is_none_or(|p| constraints.iter().any(|c| matches(c, p))),
        }
    }

    fn hint_for_node(&self, pod: &PodInfo, old: Option<&Node>, new: Option<&Node>) -> bool {
        let constraints = self.constraints(pod, HARD);
        let matches = |node: &Node| have_keys(node, &constraints);
        match (old, new) {
            (Some(old), Some(new)) => {
                let moved = constraints.iter().any(|c| old.label(&c.key) != new.label(&c.key));
                matches(old) != matches(new) || (matches(new) && (moved || taints(old) != taints(new)))
            }
            (one, other) => one.or(other).is_none_or(matches),
        }
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn points(&self) -> Points {
        Points::PRE_FILTER.and(Points::FILTER).and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn wakes_on(&self) -> u64 {
        let pods = kind::POD_ADD | kind::POD_LABEL | kind::POD_TOLERATIONS | kind::POD_DELETE;
        pods | kind::NODE_ADD | kind::NODE_DELETE | kind::NODE_LABEL | kind::NODE_TAINT
    }

    fn hint(&self, pod: &PodInfo, event: &ClusterEvent) -> bool {
        match &event.subject {
            Subject::Pod { old, new } => self.hint_for_pod(pod, old.as_deref(), new.as_deref()),
            Subject::Node { old, new } => self.hint_for_node(pod, old.as_deref(), new.as_deref()),
            _ => true,
        }
    }

    fn pre_filter(&self, state: &mut CycleState, pod: &PodInfo, view: CycleView<'_>) -> PreFilter {
        let constraints = self.constraints(pod, HARD);
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        let matching: Vec<Matching> = constraints.iter().map(|c| self.matching(c, pod, view.snapshot)).collect();
        let empty = |c: &Constraint| {
            let topology = view.snapshot.topology(&c.key);
            let by_value = vec![None; topology.len()];
            Counted { topology, by_value }
        };
        let mut counts: Vec<Counted> = constraints.iter().map(empty).collect();
        for (place, node) in view.snapshot.nodes().iter().enumerate() {
            if counts.iter().any(|c| c.topology.ids[place] == NOWHERE) {
                continue;
            }
            for (at, constraint) in constraints.iter().enumerate() {
                let counted = &mut counts[at];
                let id = counted.topology.ids[place] as usize;
                if constraint.counts(pod, node) {
                    *counted.by_value[id].get_or_insert(0) += matching[at].at(place);
                }
            }
        }
        let least = vec![0; constraints.len()];
        let mut prepared = Prepared { constraints, counts, least };
        (0..prepared.constraints.len()).for_each(|at| prepared.settle(at));
        state.put(view.plugin, prepared);
        PreFilter::All
    }

    fn add_pod(&self, state: &mut CycleState, pod: &PodInfo, added: &PodInfo, node: &NodeInfo, view: CycleView<'_>) {
        if let Some(prepared) = state.get_mut::<Prepared>(view.plugin) {
            prepared.change(pod, added, node, 1);
        }
    }

    fn remove_pod(&self, state: &mut CycleState, pod: &PodInfo, gone: &PodInfo, node: &NodeInfo, view: CycleView<'_>) {
        if let Some(prepared) = state.get_mut::<Prepared>(view.plugin) {
            prepared.change(pod, gone, node, -1);
        }
    }

    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> Option<Status> {
        let prepared = state.get::<Prepared>(view.plugin)?;
        for (at, constraint) in prepared.constraints.iter().enumerate() {
            let Some(value) = node.node.label(&constraint.key) else {
                return Some(Status::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let own = i64::from(constraint.selector.matches_map(pod.pod.labels()));
            let there = prepared.counts[at].of(value);
            if there + own - prepared.least[at] > i64::from(constraint.max_skew) {
                return Some(Status::unschedulable("node(s) didn't match pod topology spread constraints"));
            }
        }
        None
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, feasible: &[usize], view: CycleView<'_>) -> bool {
        let constraints = self.constraints(pod, SOFT);
        if constraints.is_empty() {
            return false;
        }
        let own = pod.pod.spec.as_ref().and_then(|s| s.topology_spread_constraints.as_ref());
        let all_keys = own.is_some_and(|c| !c.is_empty()) || !self.args.system_defaulted;
        let matching = constraints.iter().map(|c| self.matching(c, pod, view.snapshot)).collect::<Vec<_>>();
        state.put_score(view.plugin, Scoring::new(constraints, &matching, pod, feasible, view.snapshot, all_keys));
        true
    }

    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        state.get_score::<Scoring>(view.plugin).map_or(0, |scoring| scoring.of(pod, node))
    }

    fn normalize(&self, state: &CycleState, scores: &mut [i64], feasible: &[usize], view: CycleView<'_>) {
        if let Some(scoring) = state.get_score::<Scoring>(view.plugin) {
            scoring.normalize(scores, feasible, view.snapshot);
        }
    }
}

#[cfg(test)]
mod tests;
