//! One decision: filter, score, choose. Synchronous and under the cache's lock.

use std::collections::BTreeMap;

use rt::HashSet;

use crate::cache::Cache;
use crate::framework::{Code, CycleState, CycleView, Points, PreFilter, Status};
use crate::node_info::NodeInfo;
use crate::plugins::Weighted;
use crate::pod_info::PodInfo;

/// Fewer feasible nodes than this are never cut.
const MIN_FEASIBLE: usize = 100;

/// Why no node was found, in upstream's words, and who said so.
#[derive(Debug)]
pub(crate) struct FitError {
    pub(crate) message: String,
    /// One bit per rejecting plugin by place in the profile.
    pub(crate) rejected_by: u64,
    /// Whether a plugin failed, so that this is no verdict.
    pub(crate) failed: bool,
}

/// How many feasible nodes are enough (upstream's `numFeasibleNodesToFind`).
fn enough(nodes: usize) -> usize {
    if nodes < MIN_FEASIBLE {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(MIN_FEASIBLE)
}

/// The plugins of one profile, and where the next decision starts to look.
pub(crate) struct Cycle {
    pub(crate) plugins: Vec<Weighted>,
    start: usize,
}

impl Cycle {
    pub(crate) fn new(plugins: Vec<Weighted>) -> Self {
        Self { plugins, start: 0 }
    }

    fn with(&self, point: Points) -> impl Iterator<Item = (usize, &Weighted)> {
        self.plugins.iter().enumerate().filter(move |(_, w)| w.plugin.points().has(point))
    }

    /// Whether a PreEnqueue plugin keeps the pod out.
    pub(crate) fn gate(&self, pod: &PodInfo) -> Option<Status> {
        self.with(Points::PRE_ENQUEUE).find_map(|(_, w)| w.plugin.pre_enqueue(pod))
    }

    /// The node for a pod.
    ///
    /// # Errors
    /// No node takes it.
    pub(crate) fn decide(&mut self, pod: &PodInfo, cache: &Cache) -> Result<String, FitError> {
        let nodes = cache.nodes();
        if nodes.is_empty() {
            return Err(FitError {
                message: "no nodes available to schedule pods".into(),
                rejected_by: !0,
                failed: false,
            });
        }
        let mut state = CycleState::new(self.plugins.len());
        let (filters, only) = self.pre_filter(&mut state, pod, nodes)?;
        let feasible = self.filter(&state, pod, nodes, &filters, only.as_ref())?;
        if let [one] = feasible.as_slice() {
            return Ok(nodes[*one].name.clone());
        }
        Ok(nodes[self.best(&mut state, pod, nodes, &feasible)].name.clone())
    }

    #[allow(clippy::type_complexity, reason = "the filters to run and the nodes to look at")]
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[NodeInfo],
    ) -> Result<(Vec<usize>, Option<HashSet<String>>), FitError> {
        let mut skipped = 0u64;
        let mut only: Option<HashSet<String>> = None;
        let mut narrowed_by = 0u64;
        for (at, weighted) in self.with(Points::PRE_FILTER) {
            match weighted.plugin.pre_filter(state, pod, &CycleView { plugin: at, nodes }) {
                PreFilter::All => {}
                PreFilter::Skip => skipped |= 1 << at,
                PreFilter::Nodes(names) => {
                    narrowed_by |= 1 << at;
                    only = Some(match only {
                        None => names,
                        Some(before) => before.into_iter().filter(|name| names.contains(name)).collect(),
                    });
                }
                PreFilter::Reject(status) => {
                    let message = format!("0/{} nodes are available: {}.", nodes.len(), status.reasons.join(", "));
                    return Err(FitError { message, rejected_by: 1 << at, failed: status.code == Code::Error });
                }
            }
        }
        if only.as_ref().is_some_and(HashSet::is_empty) {
            let message =
                format!("0/{} nodes are available: node(s) didn't satisfy plugin(s) simultaneously.", nodes.len());
            return Err(FitError { message, rejected_by: narrowed_by, failed: false });
        }
        let filters = self.with(Points::FILTER).map(|(at, _)| at).filter(|at| skipped & (1 << at) == 0).collect();
        Ok((filters, only))
    }

    fn filter(
        &mut self,
        state: &CycleState,
        pod: &PodInfo,
        nodes: &[NodeInfo],
        filters: &[usize],
        only: Option<&HashSet<String>>,
    ) -> Result<Vec<usize>, FitError> {
        let wanted = enough(nodes.len());
        let mut feasible = Vec::new();
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        let (mut rejected_by, mut failed, mut looked) = (0u64, false, 0);
        for step in 0..nodes.len() {
            let at = (self.start + step) % nodes.len();
            looked = step + 1;
            let node = &nodes[at];
            if only.is_some_and(|only| !only.contains(&node.name)) {
                let text = "node(s) didn't satisfy plugin(s) [NodeAffinity]";
                *reasons.entry(text.to_owned()).or_default() += 1;
                continue;
            }
            let verdict = filters.iter().find_map(|plugin| {
                let view = CycleView { plugin: *plugin, nodes };
                self.plugins[*plugin].plugin.filter(state, pod, node, &view).map(|status| (*plugin, status))
            });
            match verdict {
                None => feasible.push(at),
                Some((plugin, status)) => {
                    rejected_by |= 1 << plugin;
                    failed |= status.code == Code::Error;
                    for reason in status.reasons {
                        *reasons.entry(reason).or_default() += 1;
                    }
                }
            }
            if feasible.len() >= wanted {
                break;
            }
        }
        self.start = (self.start + looked) % nodes.len();
        if feasible.is_empty() {
            let mut texts: Vec<String> = reasons.into_iter().map(|(reason, n)| format!("{n} {reason}")).collect();
            texts.sort();
            let message = format!("0/{} nodes are available: {}.", nodes.len(), texts.join(", "));
            // Nodes left out by PreFilter come back through the plugin that named them.
            let named =
                if only.is_some() { self.with(Points::PRE_FILTER).fold(0, |bits, (at, _)| bits | 1 << at) } else { 0 };
            return Err(FitError { message, rejected_by: rejected_by | named, failed });
        }
        Ok(feasible)
    }

    fn best(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[NodeInfo], feasible: &[usize]) -> usize {
        let mut totals = vec![0i64; feasible.len()];
        let mut scores = vec![0i64; feasible.len()];
        for (at, weighted) in self.with(Points::SCORE) {
            let view = CycleView { plugin: at, nodes };
            if weighted.plugin.points().has(Points::PRE_SCORE) && !weighted.plugin.pre_score(state, pod, &view) {
                continue;
            }
            for (score, node) in scores.iter_mut().zip(feasible) {
                *score = weighted.plugin.score(state, pod, &nodes[*node], &view);
            }
            weighted.plugin.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += score * weighted.weight;
            }
        }
        // Of equals any one, evenly: the n-th equal takes the place with a chance of 1/n.
        let (mut best, mut equals) = (0, 1u64);
        for at in 1..totals.len() {
            if totals[at] > totals[best] {
                (best, equals) = (at, 1);
            } else if totals[at] == totals[best] {
                equals += 1;
                if rt::rand::below(equals) == 0 {
                    best = at;
                }
            }
        }
        feasible[best]
    }
}

#[cfg(test)]
mod tests;
