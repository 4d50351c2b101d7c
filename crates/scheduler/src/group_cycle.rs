//! The cycle of a group of pods (GenericWorkload): all that wait are decided on, one after the other, before any is bound.
//!
//! Those that find a node count there for the ones that follow. When Permit allows one of them, all are bound; otherwise
//! none is, and the group is tried again after its back-off. A pod that room is being made for counts as if it were
//! there, but then the group has to wait for the room.

use std::any::Any;
use std::cmp::Reverse;
use std::sync::Arc;

use api::Kind;
use api::k8s::scheduling::v1alpha2::PodGroup;
use api::metav1::{Condition, Time};
use client::PatchKind;
use rt::time::Instant;
use serde_json::json;

use crate::cycle::{Engine, Undecided};
use crate::fit_error::Failure;
use crate::framework::{CycleState, Permit, Points, Status};
use crate::metrics;
use crate::plugins::gang_scheduling::INCOMPLETE;
use crate::queue::Queued;
use crate::scheduler::{Active, Outcome, Scheduler};

const CONDITION: &str = "PodGroupScheduled";
const UNSCHEDULABLE: &str = "pod group is unschedulable";
const PREEMPTING: &str = "pod group is unschedulable, pod group is waiting for preemption to complete";

/// What became of one pod of the group.
enum Fate {
    /// It counts on a node.
    Placed {
        node: Arc<str>,
        state: Box<CycleState>,
    },
    /// Room is made for it on a node.
    Nominated(Undecided),
    Rejected(Undecided),
    /// Not looked at, as something failed before.
    Untried,
}

struct Member {
    pod: Queued,
    begun: Instant,
    fate: Fate,
}

/// What became of the group.
enum Verdict {
    Scheduled,
    /// Room is made for some of it.
    Preempting,
    Unschedulable,
    Failed(String),
}

impl Verdict {
    /// Status, reason and message of the group's condition.
    fn condition(&self) -> (&'static str, &'static str, String) {
        match self {
            Self::Scheduled => ("True", "Scheduled", String::new()),
            Self::Preempting => ("False", "Unschedulable", PREEMPTING.to_owned()),
            Self::Unschedulable => ("False", "Unschedulable", UNSCHEDULABLE.to_owned()),
            Self::Failed(why) => ("False", "SchedulerError", why.clone()),
        }
    }
}

impl Scheduler {
    /// Schedules the waiting pods of a group. `first` is the one that the queue gave.
    pub(crate) async fn group_cycle(
        self: &Arc<Self>,
        engine: &mut Engine,
        key: &str,
        first: Queued,
        permit: impl Send + 'static,
    ) {
        let begun = Instant::now();
        let Some(active) = self.profile_of(&first.info.pod).cloned() else {
            self.queue.done(&first.info.uid);
            return;
        };
        let pods = self.members(key, first);
        let foreign = pods.iter().find_map(|pod| {
            let name = self.profile_of(&pod.info.pod).map(|other| other.profile.name.as_str())?;
            (name != active.profile.name).then_some(name)
        });
        let (members, verdict) = match foreign {
            None => self.decide_group(engine, &active, pods).await,
            Some(other) => {
                let why = format!(
                    "all pods in a single pod group should have the same .spec.schedulerName set, got: \"{}\" and \"{other}\"",
                    active.profile.name
                );
                let untried = |pod| Member { pod, begun, fate: Fate::Untried };
                (pods.into_iter().map(untried).collect(), Verdict::Failed(why))
            }
        };
        metrics::ALGORITHM_SECONDS.with(&[]).observe(begun.elapsed().as_secs_f64());
        let (status, reason, message) = verdict.condition();
        tracing::debug!(group = key, pods = members.len(), reason, why = message, "pod group was looked at");
        self.finish_group(&active, members, &verdict, permit).await;
        let (this, key) = (self.clone(), key.to_owned());
        rt::spawn("report a pod group", async move { this.write_condition(&key, status, reason, message).await });
    }

    /// All waiting pods of the group, in the order in which they are looked at.
    fn members(&self, key: &str, first: Queued) -> Vec<Queued> {
        let mut pods = vec![first];
        pods.extend(self.groups.without_node(key).iter().filter_map(|uid| self.queue.take_one(uid)));
        pods.sort_by(|a, b| {
            let rank = |pod: &Queued| (Reverse(pod.info.priority), pod.arrived);
            rank(a).cmp(&rank(b)).then_with(|| a.info.key.cmp(&b.info.key))
        });
        pods
    }

    async fn decide_group(&self, engine: &mut Engine, active: &Active, pods: Vec<Queued>) -> (Vec<Member>, Verdict) {
        let mut members = Vec::with_capacity(pods.len());
        let (mut enough, mut preempts, mut failed) = (false, false, None);
        for pod in pods {
            let begun = Instant::now();
            if failed.is_some() {
                members.push(Member { pod, begun, fate: Fate::Untried });
                continue;
            }
            let fate = match self.cycle(engine, active, &pod).await {
                Outcome::Bind { node, state, wait } => {
                    enough |= wait.is_none();
                    Fate::Placed { node, state: Box::new(state) }
                }
                Outcome::Fail(undecided) => {
                    let node = undecided.nominate.clone().filter(|node| !node.is_empty());
                    match (&undecided.failure, node) {
                        (Failure::Error(why), _) => {
                            failed = Some(format!("failed to schedule other pod from a pod group: {why}"));
                            Fate::Rejected(undecided)
                        }
                        (_, Some(node)) => {
                            preempts = true;
                            self.nominator.nominate(&pod.info, &node);
                            self.groups.assumed(&pod.info.pod);
                            enough |= is_permitted(active, &pod, &node);
                            Fate::Nominated(undecided)
                        }
                        _ => Fate::Rejected(undecided),
                    }
                }
            };
            members.push(Member { pod, begun, fate });
        }
        let verdict = match failed {
            Some(why) => Verdict::Failed(why),
            None if !enough => Verdict::Unschedulable,
            None if preempts => Verdict::Preempting,
            None => Verdict::Scheduled,
        };
        (members, verdict)
    }

    /// Binds the pods of the group, or gives them back.
    async fn finish_group(
        self: &Arc<Self>,
        active: &Arc<Active>,
        members: Vec<Member>,
        verdict: &Verdict,
        permit: impl Send + 'static,
    ) {
        let mut permit = Some(permit);
        for Member { pod, begun, fate } in members {
            let undecided = match (fate, verdict) {
                (Fate::Placed { node, state }, Verdict::Scheduled) => {
                    let own: Box<dyn Any + Send> = match permit.take() {
                        Some(permit) => Box::new(permit),
                        None => match self.permits.clone().acquire_owned().await {
                            Ok(permit) => Box::new(permit),
                            Err(_) => return,
                        },
                    };
                    let (this, active) = (self.clone(), active.clone());
                    rt::spawn("bind", async move {
                        this.bind(&active, pod, &node, *state, None, own, begun).await;
                    });
                    continue;
                }
                (Fate::Placed { node, state }, verdict) => {
                    let status = Status::unschedulable(UNSCHEDULABLE);
                    self.take_back(&active.profile, None, &state, &pod, &node, status);
                    let nominate = matches!(verdict, Verdict::Preempting).then(|| node.to_string());
                    Undecided { failure: without_node(verdict), nominate: Some(nominate.unwrap_or_default()) }
                }
                (Fate::Nominated(undecided), Verdict::Preempting) => {
                    self.groups.taken_back(&pod.info.pod);
                    undecided
                }
                (Fate::Nominated(_), verdict) => {
                    self.groups.taken_back(&pod.info.pod);
                    self.nominator.remove(&pod.info.uid);
                    Undecided { failure: without_node(verdict), nominate: Some(String::new()) }
                }
                (Fate::Rejected(undecided), _) => undecided,
                (Fate::Untried, verdict) => Undecided { failure: without_node(verdict), nominate: Some(String::new()) },
            };
            if let Some(report) = self.give_back(active, pod, undecided, begun) {
                rt::spawn("report unschedulable", report);
            }
        }
    }

    /// Writes the group's condition. One that was scheduled stays so, whatever becomes of pods that come later.
    async fn write_condition(&self, key: &str, status: &str, reason: &str, message: String) {
        let Some(group) = self.pod_groups.as_ref().and_then(|groups| groups.cache().get_key(key)) else { return };
        let Some(condition) = condition(&group, status, reason, message) else { return };
        let patch = json!({"metadata": {"uid": group.uid()}, "status": {"conditions": [condition]}});
        let (namespace, name) = (group.namespace(), group.name());
        let written = self.client.patch_status::<PodGroup>(namespace, name, &PatchKind::Strategic, &patch).await;
        if let Err(error) = written
            && !error.is_not_found()
        {
            tracing::warn!(group = key, error = error.chain(), "cannot write the pod group's status");
        }
    }
}

/// Whether Permit would let the pods of the group go on, with this one on a node.
fn is_permitted(active: &Active, pod: &Queued, node: &str) -> bool {
    let state = CycleState::new(active.profile.plugins.len());
    let mut permits = active.profile.at(Points::PERMIT).map(|(_, w)| w.plugin.permit(&state, &pod.info, node));
    permits.all(|permit| matches!(permit, Permit::Allow))
}

/// What a pod is told that is not bound because of the others.
fn without_node(verdict: &Verdict) -> Failure {
    match verdict {
        Verdict::Failed(why) => Failure::Error(why.clone()),
        Verdict::Preempting => Failure::Group(PREEMPTING.to_owned()),
        Verdict::Unschedulable | Verdict::Scheduled => Failure::Group(format!("{UNSCHEDULABLE}, {INCOMPLETE}")),
    }
}

/// The condition to write; none when the group says so already, or was scheduled before.
fn condition(group: &PodGroup, status: &str, reason: &str, message: String) -> Option<Condition> {
    let conditions = group.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let before = conditions.iter().find(|c| c.type_ == CONDITION);
    if before.is_some_and(|c| c.status == "True" && status != "True") {
        return None;
    }
    let generation = group.metadata.generation;
    if before.is_some_and(|c| {
        c.status == status && c.reason == reason && c.message == message && c.observed_generation == generation
    }) {
        return None;
    }
    let since = before.filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
    Some(Condition {
        type_: CONDITION.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since.unwrap_or_else(|| Time(rt::time::now())),
    })
}

#[cfg(test)]
mod tests;
