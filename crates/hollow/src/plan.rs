//! What is to be done about a pod, decided from its object and what its containers do here. Pure.

use std::time::Duration;

use api::prelude::{Kind, Pod};
use rt::time::{Instant, Timestamp};

use crate::{Behaviour, Life};

/// First wait before containers run again, doubled with each restart.
const RESTART_DELAY: Duration = Duration::from_secs(10);
/// The longest such wait.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(300);

/// What a pod's containers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Containers {
    /// They start, or start again after a crash.
    Starting { due: Instant },
    /// They run.
    Running { since: Timestamp, exit: Option<(Instant, i32)> },
    /// They were told to stop.
    Stopping { since: Timestamp, due: Instant, code: i32 },
    /// They ended for good.
    Ended { code: i32 },
    /// The machine was switched off under them.
    Lost,
}

/// What a node knows of a pod beside its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) uid: String,
    pub(crate) address: String,
    pub(crate) restarts: i32,
    pub(crate) containers: Containers,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing until the pod changes, or until then.
    Wait(Option<Instant>),
    /// Tell the API server how the containers are.
    Report,
    /// Remove the object for good.
    Remove,
}

pub(crate) fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// What a pod's status says of its containers; what differs has to be reported.
#[derive(Debug, PartialEq, Eq)]
struct Shown<'a> {
    phase: &'a str,
    ready: bool,
    restarts: i32,
    address: &'a str,
}

fn shown(pod: &Pod) -> Shown<'_> {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let containers = status.and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
    Shown {
        phase: phase(pod),
        ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
        restarts: containers.first().map_or(0, |c| c.restart_count),
        address: status.and_then(|s| s.pod_ip.as_deref()).unwrap_or_default(),
    }
}

fn wanted(local: &Local) -> Shown<'_> {
    let (phase, ready) = match local.containers {
        Containers::Starting { .. } | Containers::Lost if local.restarts == 0 => ("Pending", false),
        Containers::Starting { .. } | Containers::Lost => ("Running", false),
        Containers::Running { .. } | Containers::Stopping { .. } => ("Running", true),
        Containers::Ended { code: 0 } => ("Succeeded", false),
        Containers::Ended { .. } => ("Failed", false),
    };
    let address = if phase == "Pending" { "" } else { local.address.as_str() };
    Shown { phase, ready, restarts: local.restarts, address }
}

/// What a node makes of a pod that it did not know: new, or left by an earlier process of ours.
pub(crate) fn adopt(
    pod: &Pod,
    behaviour: &dyn Behaviour,
    now: Instant,
    next_address: impl FnOnce() -> String,
) -> Local {
    let seen = shown(pod);
    let address = if seen.address.is_empty() { next_address() } else { seen.address.to_owned() };
    let containers = match seen.phase {
        "Succeeded" => Containers::Ended { code: 0 },
        "Failed" => Containers::Ended { code: 1 },
        "Running" => run(pod, behaviour, now),
        _ => Containers::Starting { due: now + behaviour.start_delay(pod) },
    };
    Local { uid: pod.uid().to_owned(), address, restarts: seen.restarts, containers }
}

fn run(pod: &Pod, behaviour: &dyn Behaviour, now: Instant) -> Containers {
    let exit = match behaviour.life(pod) {
        Life::Endless => None,
        Life::Exits { after, code } => Some((now + after, code)),
    };
    Containers::Running { since: rt::time::now(), exit }
}

/// Takes the containers as far as they are by now, and says what to do.
pub(crate) fn step(pod: &Pod, local: &mut Local, behaviour: &dyn Behaviour, now: Instant) -> Step {
    if is_over(pod) && !matches!(local.containers, Containers::Ended { .. }) {
        // Somebody else ended it: an eviction, or the collection of pods of nodes that are gone.
        local.containers = Containers::Ended { code: i32::from(phase(pod) == "Failed") };
    }
    let deleting = pod.metadata.deletion_timestamp.is_some();
    if deleting {
        stop(pod, local, behaviour, now);
    }
    let next = advance(pod, local, behaviour, now);
    let settled = shown(pod) == wanted(local);
    match local.containers {
        // The pod's phase says how it ended, but readiness, which others may have written, is its own matter.
        Containers::Ended { .. } if is_over(pod) => {}
        _ if settled => return Step::Wait(next),
        _ => return Step::Report,
    }
    if !deleting || pod.metadata.deletion_grace_period_seconds == Some(0) {
        // Over, or waiting for finalizers.
        return Step::Wait(None);
    }
    Step::Remove
}

fn grace(pod: &Pod) -> Duration {
    let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn stop(pod: &Pod, local: &mut Local, behaviour: &dyn Behaviour, now: Instant) {
    match local.containers {
        Containers::Starting { .. } | Containers::Lost => local.containers = Containers::Ended { code: 137 },
        Containers::Running { since, .. } => {
            let (delay, code) = behaviour.stop(pod);
            local.containers = Containers::Stopping { since, due: now + delay.min(grace(pod)), code };
        }
        // A second deletion may have cut the time short.
        Containers::Stopping { since, due, code } => {
            local.containers = Containers::Stopping { since, due: due.min(now + grace(pod)), code };
        }
        Containers::Ended { .. } => {}
    }
}

/// Moves on what is due; gives the next moment that something is.
fn advance(pod: &Pod, local: &mut Local, behaviour: &dyn Behaviour, now: Instant) -> Option<Instant> {
    loop {
        match local.containers {
            Containers::Starting { due } if due <= now => local.containers = run(pod, behaviour, now),
            Containers::Running { exit: Some((due, code)), .. } if due <= now => exit(pod, local, code, now),
            Containers::Stopping { due, code, .. } if due <= now => local.containers = Containers::Ended { code },
            Containers::Lost => exit(pod, local, 137, now),
            Containers::Starting { due } | Containers::Stopping { due, .. } => return Some(due),
            Containers::Running { exit, .. } => return exit.map(|(due, _)| due),
            Containers::Ended { .. } => return None,
        }
    }
}

fn exit(pod: &Pod, local: &mut Local, code: i32, now: Instant) {
    let again = match restart_policy(pod) {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    };
    if !again {
        local.containers = Containers::Ended { code };
        return;
    }
    let factor = 1u32.checked_shl(local.restarts.clamp(0, 10).unsigned_abs()).unwrap_or(1);
    let delay = RESTART_DELAY.saturating_mul(factor).min(RESTART_DELAY_MAX);
    local.restarts = local.restarts.saturating_add(1);
    local.containers = Containers::Starting { due: now + delay };
}

#[cfg(test)]
mod tests;
