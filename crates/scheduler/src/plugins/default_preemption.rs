//! DefaultPreemption: makes room for a pod by evicting pods of lower priority from one node.

mod evict;
mod select;

use std::sync::Arc;

use api::k8s::policy::v1::PodDisruptionBudget;
use async_trait::async_trait;
use informer::Informer;

use self::select::{Budget, Candidate, choose};
use crate::config::args::PreemptionArgs;
use crate::fit_error::{FitError, Verdicts};
use crate::framework::{Code, Plugin, Points, Status};
use crate::handle::Handle;
use crate::metrics;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::post_filter::{PostFilter, PostFilterArgs};

pub(crate) struct DefaultPreemption {
    args: PreemptionArgs,
    handle: Handle,
    budgets: Informer<PodDisruptionBudget>,
}

/// Whether preemption ends the pod already.
fn is_ending_by_preemption(pod: &PodInfo) -> bool {
    pod.pod.metadata.deletion_timestamp.is_some()
        && component_helpers::pods::condition(&pod.pod, "DisruptionTarget")
            .is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some("PreemptionByScheduler"))
}

/// Whether the pod may preempt others now.
fn eligible(args: &PostFilterArgs<'_>) -> Result<(), &'static str> {
    let pod = args.pod;
    if pod.pod.spec.as_ref().and_then(|s| s.preemption_policy.as_deref()) == Some("Never") {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let Some(place) = args.snapshot.place(pod.nominated()) else { return Ok(()) };
    if args.verdicts.code(place) == Code::UnschedulableAndUnresolvable {
        // Room is being made on a node that will not do.
        return Ok(());
    }
    let node = &args.snapshot.nodes()[place];
    let mut ending = node.pods.iter().filter(|p| p.priority < pod.priority && is_ending_by_preemption(p));
    if ending.next().is_some() {
        return Err("not eligible due to a terminating pod on the nominated node.");
    }
    Ok(())
}

impl DefaultPreemption {
    pub(crate) fn new(args: PreemptionArgs, handle: &Handle) -> Self {
        Self { args, handle: handle.clone(), budgets: handle.factory.informer() }
    }

    /// How many candidates are enough.
    fn enough(&self, nodes: usize) -> usize {
        let of = |value: i32| usize::try_from(value).unwrap_or(0);
        (nodes * of(self.args.min_candidate_nodes_percentage) / 100)
            .max(of(self.args.min_candidate_nodes_absolute))
            .min(nodes)
    }

    /// Tries on each node that evictions may help on which pods would have to go.
    fn candidates(&self, args: &PostFilterArgs<'_>) -> (Vec<Candidate>, Verdicts) {
        let nodes = args.snapshot.nodes();
        let potential: Vec<usize> =
            (0..nodes.len()).filter(|at| args.verdicts.code(*at) == Code::Unschedulable).collect();
        let mut verdicts = Verdicts::common(Status::unresolvable("Preemption is not helpful for scheduling"));
        if potential.is_empty() {
            return (Vec::new(), verdicts);
        }
        let budgets: Vec<Budget> = self.budgets.cache().list().iter().map(|b| Budget::new(b)).collect();
        let filters = args.profile.filters(args.state);
        let offset = usize::try_from(rt::rand::below(potential.len() as u64)).unwrap_or(0);
        let wanted = self.enough(potential.len());
        let (mut clean, mut violating) = (Vec::new(), Vec::new());
        for step in 0..potential.len() {
            let place = potential[(offset + step) % potential.len()];
            match select::victims(args, &filters, &nodes[place], &budgets) {
                Ok(candidate) if candidate.violations == 0 => clean.push(candidate),
                Ok(candidate) => violating.push(candidate),
                Err(status) => verdicts.set(place, status),
            }
            if !clean.is_empty() && clean.len() + violating.len() >= wanted {
                break;
            }
        }
        clean.append(&mut violating);
        (clean, verdicts)
    }

    /// Lets extenders take candidates away.
    async fn ask_extenders(
        args: &PostFilterArgs<'_>,
        mut candidates: Vec<Candidate>,
    ) -> Result<Vec<Candidate>, String> {
        for extender in args.extenders.iter().filter(|e| e.preempts() && e.is_interested(args.pod)) {
            let given: Vec<(String, Vec<Arc<PodInfo>>, i64)> =
                candidates.iter().map(|c| (c.node.to_string(), c.victims.clone(), c.violations)).collect();
            let left = match extender.preempt(args.pod, &given).await {
                Ok(left) => left,
                Err(error) if extender.ignorable() => {
                    tracing::warn!(extender = extender.name(), error, "extender failed and is ignorable");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut kept = Vec::new();
            for (node, (uids, violations)) in left {
                let Some(info) = args.snapshot.node(&node) else {
                    return Err(format!("extender \"{}\" names node \"{node}\", which is not known", extender.name()));
                };
                let victims = on_node(info, &uids).ok_or_else(|| {
                    format!("extender \"{}\" names pods that are not on node \"{node}\"", extender.name())
                })?;
                if !victims.is_empty() {
                    kept.push(Candidate { node: info.name.clone(), victims, violations });
                } else if !extender.ignorable() {
                    return Err(format!("expected at least one victim pod on node \"{node}\""));
                }
            }
            candidates = kept;
            if candidates.is_empty() {
                break;
            }
        }
        Ok(candidates)
    }
}

fn on_node(node: &NodeInfo, uids: &[String]) -> Option<Vec<Arc<PodInfo>>> {
    uids.iter().map(|uid| node.pods.iter().find(|p| p.uid == *uid).cloned()).collect()
}

fn unhelpful(reason: &str) -> PostFilter {
    PostFilter::keep(Status::unschedulable(format!("preemption: {reason}")))
}

#[async_trait]
impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> Points {
        Points::POST_FILTER
    }

    async fn post_filter(&self, args: PostFilterArgs<'_>) -> PostFilter {
        metrics::PREEMPTION_ATTEMPTS.with(&[]).add(1);
        if let Err(reason) = eligible(&args) {
            return unhelpful(reason);
        }
        let (candidates, verdicts) = self.candidates(&args);
        if candidates.is_empty() {
            let error = FitError { nodes: args.snapshot.nodes().len(), verdicts, ..FitError::default() };
            return PostFilter { nominate: Some(String::new()), ..unhelpful(&error.message()) };
        }
        let candidates = match Self::ask_extenders(&args, candidates).await {
            Ok(candidates) => candidates,
            Err(error) => return PostFilter::keep(Status::error(format!("preemption: {error}"))),
        };
        let Some(best) = choose(candidates) else {
            return unhelpful("no candidate node for preemption");
        };
        tracing::debug!(pod = args.pod.key, node = &*best.node, victims = best.victims.len(), "preempting");
        metrics::PREEMPTION_VICTIMS.with(&[]).observe(best.victims.len() as f64);
        let node = best.node.to_string();
        evict::begin(&self.handle, args.pod.clone(), best);
        PostFilter { nominate: Some(node), status: None }
    }
}
