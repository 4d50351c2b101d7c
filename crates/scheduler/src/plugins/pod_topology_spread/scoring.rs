//! Scores by how few matching pods are near.

use std::sync::Arc;

use api::Kind;
use rt::HashSet;

use super::constraint::{Constraint, have_keys};
use super::{Matching, matching};
use crate::framework::MAX_NODE_SCORE;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;
use crate::tally::{NOWHERE, Topology};

const HOSTNAME: &str = "kubernetes.io/hostname";

/// What Score needs.
#[derive(Clone)]
pub(super) struct Scoring {
    constraints: Vec<Constraint>,
    /// Nodes that are not in every topology.
    ignored: HashSet<usize>,
    ignored_names: HashSet<String>,
    counts: Vec<Counts>,
    weights: Vec<f64>,
}

/// The pods that match by value of the topology; none for values that no feasible node has. Nodes without the label are
/// together in one part.
#[derive(Clone)]
struct Counts {
    topology: Arc<Topology>,
    by_value: Vec<Option<i64>>,
    nowhere: Option<i64>,
}

impl Counts {
    fn at(&mut self, place: usize) -> &mut Option<i64> {
        let id = self.topology.ids[place] as usize;
        self.by_value.get_mut(id).unwrap_or(&mut self.nowhere)
    }

    fn len(&self) -> usize {
        self.by_value.iter().flatten().count() + usize::from(self.nowhere.is_some())
    }

    fn of(&self, value: &str) -> i64 {
        self.topology.id(value).and_then(|id| self.by_value[id]).unwrap_or(0)
    }
}

impl Scoring {
    pub(super) fn new(
        constraints: Vec<Constraint>,
        matching: &[Matching],
        pod: &PodInfo,
        feasible: &[usize],
        snapshot: &Snapshot,
        all_keys: bool,
    ) -> Self {
        let empty = |c: &Constraint| {
            let topology = snapshot.topology(&c.key);
            // Counted per node when it is scored.
            let by_value = if &*c.key == HOSTNAME { Vec::new() } else { vec![None; topology.len()] };
            Counts { topology, by_value, nowhere: None }
        };
        let mut counts: Vec<Counts> = constraints.iter().map(empty).collect();
        let (mut ignored, mut ignored_names) = (HashSet::default(), HashSet::default());
        for at in feasible {
            let node = &snapshot.nodes()[*at].node;
            if all_keys && !have_keys(node, &constraints) {
                ignored.insert(*at);
                ignored_names.insert(node.name().to_owned());
                continue;
            }
            for (constraint, counts) in constraints.iter().zip(&mut counts) {
                if &*constraint.key != HOSTNAME {
                    counts.at(*at).get_or_insert(0);
                }
            }
        }
        let size = |at: usize, c: &Constraint| match &*c.key {
            HOSTNAME => feasible.len() - ignored.len(),
            _ => counts[at].len(),
        };
        let weights = constraints.iter().enumerate().map(|(at, c)| ((size(at, c) + 2) as f64).ln()).collect();
        let mut scoring = Self { constraints, ignored, ignored_names, counts, weights };
        scoring.count(matching, pod, snapshot, all_keys);
        scoring
    }

    fn count(&mut self, matching: &[Matching], pod: &PodInfo, snapshot: &Snapshot, all_keys: bool) {
        if self.counts.iter().all(|c| c.len() == 0) {
            return;
        }
        for (place, node) in snapshot.nodes().iter().enumerate() {
            if all_keys && self.counts.iter().any(|c| c.topology.ids[place] == NOWHERE) {
                continue;
            }
            for (at, constraint) in self.constraints.iter().enumerate() {
                let more = matching[at].at(place);
                if more == 0 || &*constraint.key == HOSTNAME || !constraint.counts(pod, node) {
                    continue;
                }
                if let Some(count) = self.counts[at].at(place) {
                    *count += more;
                }
            }
        }
    }

    pub(super) fn of(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        if !self.ignored_names.is_empty() && self.ignored_names.contains(&*node.name) {
            return 0;
        }
        let mut score = 0.0;
        for (at, constraint) in self.constraints.iter().enumerate() {
            let Some(value) = node.node.label(&constraint.key) else { continue };
            let count = match &*constraint.key {
                HOSTNAME => matching(node, &constraint.selector, pod.pod.namespace()),
                _ => self.counts[at].of(value),
            };
            score += count as f64 * self.weights[at] + f64::from(constraint.max_skew - 1);
        }
        score.round() as i64
    }

    pub(super) fn normalize(&self, scores: &mut [i64], feasible: &[usize], _: &Snapshot) {
        let counted = || feasible.iter().map(|at| !self.ignored.contains(at));
        let (mut least, mut most) = (i64::MAX, 0);
        for (score, _) in scores.iter().zip(counted()).filter(|(_, counted)| *counted) {
            least = least.min(*score);
            most = most.max(*score);
        }
        for (score, counted) in scores.iter_mut().zip(counted()) {
            *score = match (counted, most) {
                (false, _) => 0,
                (true, 0) => MAX_NODE_SCORE,
                (true, most) => MAX_NODE_SCORE * (most + least - *score) / most,
            };
        }
    }
}
