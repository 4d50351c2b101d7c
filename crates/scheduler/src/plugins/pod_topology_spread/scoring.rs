//! Scores by how few matching pods are near.

use api::Kind;
use rt::{HashMap, HashSet};

use super::constraint::{Constraint, have_keys};
use super::matching;
use crate::framework::MAX_NODE_SCORE;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// What Score needs.
#[derive(Clone)]
pub(super) struct Scoring {
    constraints: Vec<Constraint>,
    /// Nodes that are not in every topology.
    ignored: HashSet<usize>,
    ignored_names: HashSet<String>,
    counts: Vec<HashMap<String, i64>>,
    weights: Vec<f64>,
}

impl Scoring {
    pub(super) fn new(
        constraints: Vec<Constraint>,
        pod: &PodInfo,
        feasible: &[usize],
        snapshot: &Snapshot,
        all_keys: bool,
    ) -> Self {
        let mut counts: Vec<HashMap<String, i64>> = vec![HashMap::default(); constraints.len()];
        let (mut ignored, mut ignored_names) = (HashSet::default(), HashSet::default());
        for at in feasible {
            let node = &snapshot.nodes()[*at].node;
            if all_keys && !have_keys(node, &constraints) {
                ignored.insert(*at);
                ignored_names.insert(node.name().to_owned());
                continue;
            }
            for (constraint, counts) in constraints.iter().zip(&mut counts) {
                // Counted per node when it is scored.
                if constraint.key == HOSTNAME {
                    continue;
                }
                let value = node.label(&constraint.key).unwrap_or_default();
                if !counts.contains_key(value) {
                    counts.insert(value.to_owned(), 0);
                }
            }
        }
        let size = |at: usize, c: &Constraint| match c.key.as_str() {
            HOSTNAME => feasible.len() - ignored.len(),
            _ => counts[at].len(),
        };
        let weights = constraints.iter().enumerate().map(|(at, c)| ((size(at, c) + 2) as f64).ln()).collect();
        let mut scoring = Self { constraints, ignored, ignored_names, counts, weights };
        scoring.count(pod, snapshot, all_keys);
        scoring
    }

    fn count(&mut self, pod: &PodInfo, snapshot: &Snapshot, all_keys: bool) {
        if self.counts.iter().all(HashMap::is_empty) {
            return;
        }
        for node in snapshot.nodes() {
            if all_keys && !have_keys(&node.node, &self.constraints) {
                continue;
            }
            for (constraint, counts) in self.constraints.iter().zip(&mut self.counts) {
                if constraint.key == HOSTNAME || !constraint.counts(pod, &node.node) {
                    continue;
                }
                let value = node.node.label(&constraint.key).unwrap_or_default();
                if let Some(count) = counts.get_mut(value) {
                    *count += matching(node, &constraint.selector, pod.pod.namespace());
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
            let count = match constraint.key.as_str() {
                HOSTNAME => matching(node, &constraint.selector, pod.pod.namespace()),
                _ => self.counts[at].get(value).copied().unwrap_or(0),
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
