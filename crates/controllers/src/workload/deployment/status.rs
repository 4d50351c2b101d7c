//! The status of a Deployment and its conditions; pure.

use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use api::metav1::Time;
use rt::time::Timestamp;

use super::{Rollout, plan};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

fn condition(type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn find<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

fn remove(status: &mut DeploymentStatus, type_: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != type_);
    }
    status.conditions = status.conditions.take().filter(|c| !c.is_empty());
}

/// Sets a condition unless status and reason stay; the transition time stays while the status does.
fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(old) = find(status, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

fn current(deployment: &Deployment) -> DeploymentStatus {
    deployment.status.clone().unwrap_or_default()
}

/// The status without the Progressing condition's changes.
pub(super) fn calculate(rollout: &Rollout) -> DeploymentStatus {
    let deployment = &rollout.deployment;
    let sum = |field: fn(&api::k8s::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        rollout.sets.all().filter_map(|s| s.status.as_ref()).map(field).sum()
    };
    let available = sum(|s| s.available_replicas.unwrap_or(0));
    let wanted: i32 = rollout.sets.all().map(|s| plan::spec_replicas(s)).sum();
    let some = |n: i32| Some(n).filter(|n| *n != 0);
    let terminating = rollout.sets.all().map(|s| s.status.as_ref().and_then(|s| s.terminating_replicas)).sum();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(|s| s.replicas)),
        updated_replicas: some(rollout.sets.new.as_ref().and_then(|s| s.status.as_ref()).map_or(0, |s| s.replicas)),
        ready_replicas: some(sum(|s| s.ready_replicas.unwrap_or(0))),
        available_replicas: some(available),
        unavailable_replicas: some((wanted - available).max(0)),
        terminating_replicas: terminating,
        collision_count: current(deployment).collision_count,
        conditions: current(deployment).conditions,
    };
    let enough = available >= plan::replicas(deployment) - plan::max_unavailable(deployment);
    let new = if enough {
        let text = "Deployment has minimum availability.";
        condition("Available", "True", "MinimumReplicasAvailable", text, rollout.now)
    } else {
        let text = "Deployment does not have minimum availability.";
        condition("Available", "False", "MinimumReplicasUnavailable", text, rollout.now)
    };
    set(&mut status, new);
    status
}

pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let want = plan::replicas(deployment);
    status.updated_replicas.unwrap_or(0) == want
        && status.replicas.unwrap_or(0) == want
        && status.available_replicas.unwrap_or(0) == want
        && status.observed_generation >= deployment.metadata.generation
}

fn is_progressing(deployment: &Deployment, new: &DeploymentStatus) -> bool {
    let old = current(deployment);
    let old_replicas = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    new.updated_replicas > old.updated_replicas
        || old_replicas(new) < old_replicas(&old)
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

fn has_timed_out(deployment: &Deployment, new: &DeploymentStatus, now: Timestamp) -> bool {
    let Some(condition) = find(new, PROGRESSING) else { return false };
    match condition.reason.as_deref() {
        Some(AVAILABLE) => return false,
        Some(TIMED_OUT) => return true,
        _ => {}
    }
    let (Some(seconds), Some(from)) = (plan::progress_deadline(deployment), &condition.last_update_time) else {
        return false;
    };
    rt::time::between(from.0, now) >= Duration::from_secs(seconds.unsigned_abs().into())
}

/// The whole status of a rollout, progress included.
pub(super) fn progress(rollout: &Rollout) -> DeploymentStatus {
    let deployment = &rollout.deployment;
    let mut status = calculate(rollout);
    if plan::progress_deadline(deployment).is_none() {
        remove(&mut status, PROGRESSING);
    }
    let was_complete = status.replicas == status.updated_replicas
        && find(&status, PROGRESSING).is_some_and(|c| c.reason.as_deref() == Some(AVAILABLE));
    if plan::progress_deadline(deployment).is_some() && !was_complete {
        update_progressing(rollout, &mut status);
    }
    let failure = rollout.sets.new.iter().chain(&rollout.sets.old).find_map(|set| {
        set.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "ReplicaFailure").cloned()
    });
    match failure {
        Some(failure) => set(
            &mut status,
            DeploymentCondition {
                type_: "ReplicaFailure".into(),
                status: failure.status,
                reason: failure.reason,
                message: failure.message,
                last_update_time: failure.last_transition_time.clone(),
                last_transition_time: failure.last_transition_time,
            },
        ),
        None => remove(&mut status, "ReplicaFailure"),
    }
    status
}

fn update_progressing(rollout: &Rollout, status: &mut DeploymentStatus) {
    let deployment = &rollout.deployment;
    let subject = match &rollout.sets.new {
        Some(set) => format!("ReplicaSet {:?}", set.name()),
        None => format!("Deployment {:?}", deployment.name()),
    };
    let now = rollout.now;
    if is_complete(deployment, status) {
        let text = format!("{subject} has successfully progressed.");
        set(status, condition(PROGRESSING, "True", AVAILABLE, &text, now));
    } else if is_progressing(deployment, status) {
        let text = format!("{subject} is progressing.");
        let mut new = condition(PROGRESSING, "True", "ReplicaSetUpdated", &text, now);
        if let Some(old) = find(status, PROGRESSING).filter(|c| c.status == "True") {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
        // Same reason or not: progress moves the update time, from which the deadline counts.
        remove(status, PROGRESSING);
        set(status, new);
    } else if has_timed_out(deployment, status, now) {
        let text = format!("{subject} has timed out progressing.");
        set(status, condition(PROGRESSING, "False", TIMED_OUT, &text, now));
    }
}

/// When to look again whether the deadline has passed.
pub(super) fn next_progress_check(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let seconds = plan::progress_deadline(deployment)?;
    let condition = find(status, PROGRESSING)?;
    if is_complete(deployment, status) || condition.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let gone = rt::time::between(condition.last_update_time.as_ref()?.0, now);
    Some(Duration::from_secs(seconds.unsigned_abs().into()).saturating_sub(gone))
}

/// The status that says the rollout is paused or goes on, when it does not say so yet.
pub(super) fn with_paused_condition(deployment: &Deployment, now: Timestamp) -> Option<DeploymentStatus> {
    plan::progress_deadline(deployment)?;
    let mut status = current(deployment);
    let old = find(&status, PROGRESSING);
    if old.is_some_and(|c| c.reason.as_deref() == Some(TIMED_OUT)) {
        return None;
    }
    let says_paused = old.is_some_and(|c| c.reason.as_deref() == Some(PAUSED));
    let new = match (plan::is_paused(deployment), says_paused) {
        (true, false) => condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now),
        (false, true) => condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now),
        _ => return None,
    };
    set(&mut status, new);
    Some(status)
}

/// The status that says a ReplicaSet was made or found; `None` when it says something already.
pub(super) fn with_new_set(
    deployment: &Deployment,
    reason: &str,
    message: &str,
    always: bool,
    now: Timestamp,
) -> Option<DeploymentStatus> {
    plan::progress_deadline(deployment)?;
    let mut status = current(deployment);
    if !always && find(&status, PROGRESSING).is_some() {
        return None;
    }
    set(&mut status, condition(PROGRESSING, "True", reason, message, now));
    Some(status)
}

/// The status that says no ReplicaSet could be made.
pub(super) fn with_creation_failure(
    deployment: &Deployment,
    message: &str,
    now: Timestamp,
) -> Option<DeploymentStatus> {
    plan::progress_deadline(deployment)?;
    let mut status = current(deployment);
    set(&mut status, condition(PROGRESSING, "False", "ReplicaSetCreateError", message, now));
    Some(status)
}
