//! Which pods would have to go, and from which node.

use std::sync::Arc;

use api::Kind;
use api::k8s::policy::v1::PodDisruptionBudget;
use meta::selector::LabelSelector;
use rt::HashSet;

use crate::framework::Status;
use crate::labels::selector_of;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::post_filter::PostFilterArgs;

/// A node, and the pods that would have to go, the most important first.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) node: Arc<str>,
    pub(super) victims: Vec<Arc<PodInfo>>,
    /// How many of them a disruption budget protects.
    pub(super) violations: i64,
}

/// A disruption budget, compiled.
pub(super) struct Budget {
    namespace: String,
    selector: LabelSelector,
    allowed: i32,
    disrupted: HashSet<String>,
}

impl Budget {
    pub(super) fn new(budget: &PodDisruptionBudget) -> Self {
        let status = budget.status.as_ref();
        let disrupted = status.and_then(|s| s.disrupted_pods.as_ref());
        Self {
            namespace: budget.namespace().to_owned(),
            selector: selector_of(budget.spec.as_ref().and_then(|s| s.selector.as_ref())),
            allowed: status.and_then(|s| s.disruptions_allowed).unwrap_or(0),
            disrupted: disrupted.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
        }
    }

    fn covers(&self, pod: &PodInfo) -> bool {
        self.namespace == pod.pod.namespace()
            && !self.selector.is_everything()
            && self.selector.matches_map(pod.pod.labels())
            && !self.disrupted.contains(pod.pod.name())
    }
}

/// The pod's start, in nanoseconds; one that has not started is the youngest.
fn started(pod: &PodInfo) -> i128 {
    let start = pod.pod.status.as_ref().and_then(|s| s.start_time.as_ref());
    start.map_or(i128::MAX, |t| t.0.as_nanosecond())
}

/// The most important first: by priority, then by age.
fn by_importance(pods: &mut [Arc<PodInfo>]) {
    pods.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| started(a).cmp(&started(b))));
}

/// Splits pods, in their order, into those whose eviction violates a budget and the others.
fn split(pods: Vec<Arc<PodInfo>>, budgets: &[Budget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut allowed: Vec<i32> = budgets.iter().map(|b| b.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut violated = false;
        if !pod.pod.labels().is_empty() {
            for (left, _) in allowed.iter_mut().zip(budgets).filter(|(_, budget)| budget.covers(pod)) {
                *left -= 1;
                violated |= *left < 0;
            }
        }
        violated
    })
}

/// The fewest pods that must go from a node, spared in the order of their importance, those that budgets protect first.
///
/// # Errors
/// No pod may go, or it would not help.
pub(super) fn victims(
    args: &PostFilterArgs<'_>,
    filters: &[usize],
    node: &NodeInfo,
    budgets: &[Budget],
) -> Result<Candidate, Status> {
    let (pod, profile, snapshot) = (args.pod, args.profile, args.snapshot);
    let mut potential: Vec<Arc<PodInfo>> = node.pods.iter().filter(|p| p.priority < pod.priority).cloned().collect();
    if potential.is_empty() {
        return Err(Status::unresolvable("No preemption victims found for incoming pod"));
    }
    let (mut node, mut state) = (node.clone(), args.state.clone());
    for victim in &potential {
        node.remove_pod(&victim.uid);
        profile.remove_pod(&mut state, pod, victim, &node, snapshot);
    }
    let fits = |state: &_, node: &NodeInfo| {
        profile.filter_with_nominated(filters, state, pod, node, snapshot, args.nominator).map(|(_, status)| status)
    };
    if let Some(status) = fits(&state, &node) {
        return Err(status);
    }
    by_importance(&mut potential);
    let (protected, others) = split(potential, budgets);
    let protected_count = protected.len();
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (at, spared) in protected.into_iter().chain(others).enumerate() {
        node.add_pod(spared.clone());
        profile.add_pod(&mut state, pod, &spared, &node, snapshot);
        if fits(&state, &node).is_some() {
            node.remove_pod(&spared.uid);
            profile.remove_pod(&mut state, pod, &spared, &node, snapshot);
            victims.push(spared);
            violations += i64::from(at < protected_count);
        }
    }
    if victims.is_empty() {
        let name = &node.name;
        return Err(Status::error(format!("expected at least one victim pod on node \"{name}\"")));
    }
    by_importance(&mut victims);
    Ok(Candidate { node: node.name.clone(), victims, violations })
}

/// The best candidate: fewest violations of budgets, then the lowest of the highest priorities, the lowest sum of
/// priorities, the fewest pods, the youngest among the most important pods.
pub(super) fn choose(candidates: Vec<Candidate>) -> Option<Candidate> {
    let rank = |candidate: &Candidate| {
        let highest = candidate.victims.first().map_or(i32::MIN, |v| v.priority);
        // All made positive, so that few pods of a negative priority are better than many.
        let sum: i64 = candidate.victims.iter().map(|v| i64::from(v.priority) + i64::from(i32::MAX) + 1).sum();
        let most_important = candidate.victims.iter().filter(|v| v.priority == highest);
        let oldest = most_important.map(|v| started(v)).min().unwrap_or(i128::MAX);
        (candidate.violations, highest, sum, candidate.victims.len(), std::cmp::Reverse(oldest))
    };
    candidates.into_iter().min_by_key(|candidate| rank(candidate))
}

#[cfg(test)]
mod tests;
