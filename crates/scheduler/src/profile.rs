//! A profile: which plugins run at which point, in which order, with which weight.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use rt::HashSet;

use crate::fit_error::FitError;
use crate::framework::{Code, CycleState, CycleView, Points, PreFilter, Status, Weighted};
use crate::node_info::NodeInfo;
use crate::nominator::Nominator;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

/// See the module.
pub(crate) struct Profile {
    /// The `schedulerName` of pods that are scheduled by it.
    pub(crate) name: String,
    pub(crate) plugins: Vec<Weighted>,
    /// Places of plugins by the number of the point, in running order.
    order: [Vec<usize>; Points::COUNT],
    /// Percentage of nodes after which the search for feasible ones ends; none and 0 mean by the cluster's size.
    pub(crate) percentage: Option<i32>,
}

/// What PreFilter prepared.
pub(crate) struct Prepared {
    pub(crate) state: CycleState,
    /// The filters that have something to say.
    pub(crate) filters: Vec<usize>,
    /// The only nodes to look at, and who said so.
    pub(crate) only: Option<(HashSet<String>, BTreeSet<&'static str>, u64)>,
    /// A plugin rejected the pod for all nodes, but evictions may help.
    pub(crate) rejected: Option<(usize, Status)>,
}

/// How PreFilter ended early.
pub(crate) enum Stopped {
    Rejected { state: CycleState, by: u64, status: Status },
    Failed(String),
}

impl Profile {
    pub(crate) fn new(
        name: String,
        plugins: Vec<Weighted>,
        order: [Vec<usize>; Points::COUNT],
        percentage: Option<i32>,
    ) -> Self {
        Self { name, plugins, order, percentage }
    }

    /// The plugins of one point, in running order.
    pub(crate) fn at(&self, point: Points) -> impl Iterator<Item = (usize, &Weighted)> {
        self.order[point.number()].iter().map(|at| (*at, &self.plugins[*at]))
    }

    /// Whether a PreEnqueue plugin keeps the pod out, and which.
    pub(crate) fn gate(&self, pod: &PodInfo) -> Option<(usize, Status)> {
        self.at(Points::PRE_ENQUEUE).find_map(|(at, w)| Some((at, w.plugin.pre_enqueue(pod)?)))
    }

    /// Runs PreFilter.
    pub(crate) fn pre_filter(&self, pod: &PodInfo, snapshot: &Snapshot) -> Result<Prepared, Stopped> {
        let mut state = CycleState::new(self.plugins.len());
        let mut only: Option<HashSet<String>> = None;
        let (mut narrowing, mut narrowed_by, mut rejected) = (BTreeSet::new(), 0u64, None);
        for (at, weighted) in self.at(Points::PRE_FILTER) {
            match weighted.plugin.pre_filter(&mut state, pod, CycleView { plugin: at, snapshot }) {
                PreFilter::All => {}
                PreFilter::Skip => state.skipped |= 1 << at,
                PreFilter::Nodes(names) => {
                    narrowing.insert(weighted.plugin.name());
                    narrowed_by |= 1 << at;
                    only = Some(match only {
                        None => names,
                        Some(before) => before.into_iter().filter(|name| names.contains(name)).collect(),
                    });
                    if only.as_ref().is_some_and(HashSet::is_empty) {
                        let text = match narrowing.len() {
                            1 => format!("node(s) didn't satisfy plugin {}", weighted.plugin.name()),
                            _ => format!("node(s) didn't satisfy plugin(s) {} simultaneously", listed(&narrowing)),
                        };
                        return Err(Stopped::Rejected { state, by: narrowed_by, status: Status::unresolvable(text) });
                    }
                }
                PreFilter::Reject(status) => match status.code {
                    Code::Error => {
                        let name = weighted.plugin.name();
                        return Err(Stopped::Failed(format!(
                            "running PreFilter plugin \"{name}\": {}",
                            status.message()
                        )));
                    }
                    Code::UnschedulableAndUnresolvable => {
                        return Err(Stopped::Rejected { state, by: 1 << at, status });
                    }
                    // Preemption needs what the others prepare.
                    Code::Unschedulable => rejected = Some((at, status)),
                },
            }
        }
        let filters = self.at(Points::FILTER).map(|(at, _)| at).filter(|at| state.skipped & (1 << at) == 0).collect();
        let only = only.map(|names| (names, narrowing, narrowed_by));
        Ok(Prepared { state, filters, only, rejected })
    }

    /// The first filter that rejects the node, with its verdict.
    pub(crate) fn filter(
        &self,
        filters: &[usize],
        state: &CycleState,
        pod: &PodInfo,
        node: &NodeInfo,
        snapshot: &Snapshot,
    ) -> Option<(usize, Status)> {
        filters.iter().find_map(|at| {
            let view = CycleView { plugin: *at, snapshot };
            Some((*at, self.plugins[*at].plugin.filter(state, pod, node, view)?))
        })
    }

    /// The filters that PreFilter did not skip.
    pub(crate) fn filters(&self, state: &CycleState) -> Vec<usize> {
        self.at(Points::FILTER).map(|(at, _)| at).filter(|at| state.skipped & (1 << at) == 0).collect()
    }

    /// Filters with the pods counted that are nominated for the node and come first, and then, as these may never come,
    /// without them: the pod must fit both ways.
    pub(crate) fn filter_with_nominated(
        &self,
        filters: &[usize],
        state: &CycleState,
        pod: &PodInfo,
        node: &NodeInfo,
        snapshot: &Snapshot,
        nominator: &Nominator,
    ) -> Option<(usize, Status)> {
        let mut nominated = nominator.on(&node.name);
        nominated.retain(|p| p.priority >= pod.priority && p.uid != pod.uid);
        if !nominated.is_empty() {
            let (mut state, mut node) = (state.clone(), node.clone());
            for other in nominated {
                node.add_pod(other.clone());
                self.add_pod(&mut state, pod, &other, &node, snapshot);
            }
            if let Some(rejected) = self.filter(filters, &state, pod, &node, snapshot) {
                return Some(rejected);
            }
        }
        self.filter(filters, state, pod, node, snapshot)
    }

    /// Tells the plugins of a pod put on a node.
    pub(crate) fn add_pod(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        added: &PodInfo,
        node: &NodeInfo,
        snapshot: &Snapshot,
    ) {
        for (at, weighted) in
            self.at(Points::PRE_FILTER).filter(|(at, _)| state_wants(state.skipped, *at)).collect::<Vec<_>>()
        {
            weighted.plugin.add_pod(state, pod, added, node, CycleView { plugin: at, snapshot });
        }
    }

    /// Tells the plugins of a pod taken off a node.
    pub(crate) fn remove_pod(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        gone: &PodInfo,
        node: &NodeInfo,
        snapshot: &Snapshot,
    ) {
        for (at, weighted) in
            self.at(Points::PRE_FILTER).filter(|(at, _)| state_wants(state.skipped, *at)).collect::<Vec<_>>()
        {
            weighted.plugin.remove_pod(state, pod, gone, node, CycleView { plugin: at, snapshot });
        }
    }

    /// The weighted sums of all scores of the feasible nodes.
    pub(crate) fn score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        feasible: &[usize],
        snapshot: &Snapshot,
    ) -> Vec<i64> {
        let mut skipped = 0u64;
        for (at, weighted) in self.at(Points::PRE_SCORE) {
            if !weighted.plugin.pre_score(state, pod, feasible, CycleView { plugin: at, snapshot }) {
                skipped |= 1 << at;
            }
        }
        let mut totals = vec![0i64; feasible.len()];
        let mut scores = vec![0i64; feasible.len()];
        for (at, weighted) in self.at(Points::SCORE).filter(|(at, _)| skipped & (1 << at) == 0) {
            let view = CycleView { plugin: at, snapshot };
            for (score, node) in scores.iter_mut().zip(feasible) {
                *score = weighted.plugin.score(state, pod, &snapshot.nodes()[*node], view);
            }
            weighted.plugin.normalize(state, &mut scores, feasible, view);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += score * weighted.weight;
            }
        }
        totals
    }

    /// Runs Reserve; undoes all of it when a plugin fails.
    pub(crate) fn reserve(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        node: &Arc<NodeInfo>,
        snapshot: &Snapshot,
    ) -> Result<(), Status> {
        for (at, weighted) in self.at(Points::RESERVE) {
            if let Some(status) = weighted.plugin.reserve(state, pod, node, CycleView { plugin: at, snapshot }) {
                self.unreserve(state, pod, &node.name);
                return Err(status);
            }
        }
        Ok(())
    }

    /// Undoes Reserve, in reverse order.
    pub(crate) fn unreserve(&self, state: &CycleState, pod: &PodInfo, node: &str) {
        for at in self.order[Points::RESERVE.number()].iter().rev() {
            self.plugins[*at].plugin.unreserve(state, pod, node, *at);
        }
    }

    /// What the verdict of a single plugin on a single node makes of a pod.
    pub(crate) fn single_rejection(&self, at: usize, status: Status) -> FitError {
        let mut error = FitError { nodes: 1, rejected_by: 1 << at, ..FitError::default() };
        error.verdicts.set(0, status);
        error
    }
}

fn state_wants(skipped: u64, at: usize) -> bool {
    skipped & (1 << at) == 0
}

/// `[A B]`, as Go prints a list.
pub(crate) fn listed(names: &BTreeSet<&'static str>) -> Cow<'static, str> {
    format!("[{}]", names.iter().copied().collect::<Vec<_>>().join(" ")).into()
}
