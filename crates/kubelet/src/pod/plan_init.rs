//! The plan's part about init containers and sidecars.
//!
//! Init containers run one after the other; a sidecar counts as done once it has started (and passed its startup
//! probe), and keeps running beside what follows. Records of finished init containers may be gone, so progress is read
//! from the last one backwards.

use node_api::{ContainerState, ContainerStatus};

use crate::k8s::{Container, Pod, PodExt, is_sidecar};
use crate::pod::observed::Observed;
use crate::pod::plan::{Kill, KillReason, ProbeResults, definition_changed, kill};
use crate::pod::restart;

/// What to do about init containers.
#[derive(Debug, Default)]
pub struct InitPlan {
    /// Main containers may run.
    pub initialized: bool,
    /// One failed for good.
    pub kill_pod: bool,
    /// Kill these.
    pub kill: Vec<Kill>,
    /// Start these, in order.
    pub start: Vec<usize>,
}

/// Makes the plan.
#[must_use]
pub fn plan(pod: &Pod, observed: &Observed, probes: &dyn ProbeResults) -> InitPlan {
    let containers = pod.init_containers();
    if containers.is_empty() {
        return InitPlan { initialized: true, ..InitPlan::default() };
    }
    let main_active = pod.spec().containers.iter().filter_map(|c| observed.latest(&c.name));
    let mut out = InitPlan { initialized: false, ..InitPlan::default() };
    out.initialized =
        main_active.into_iter().any(|s| matches!(s.state, ContainerState::Created | ContainerState::Running));
    // True below the container that is being initialized: everything before it has been.
    let mut passed = out.initialized;
    for (index, container) in containers.iter().enumerate().rev() {
        let sidecar = is_sidecar(container);
        let Some(status) = observed.latest(&container.name) else {
            if passed && sidecar {
                out.start.push(index);
            }
            continue;
        };
        if passed && !sidecar {
            continue;
        }
        let place = Place { index, last: index + 1 == containers.len(), passed };
        let fatal = match status.state {
            ContainerState::Created => {
                out.start.push(index);
                false
            }
            ContainerState::Running => {
                if sidecar {
                    running_sidecar(&mut out, container, status, place, probes);
                }
                false
            }
            ContainerState::Exited if sidecar => {
                out.start.push(index);
                false
            }
            ContainerState::Exited => exited(&mut out, pod, container, status, observed, place),
            ContainerState::Unknown => unknown(&mut out, pod, container, status, index),
        };
        if fatal {
            return InitPlan { kill_pod: true, kill: out.kill, ..InitPlan::default() };
        }
        passed = true;
    }
    if !passed {
        out.start.push(0);
    }
    out.start.reverse();
    out.start.dedup();
    out
}

#[derive(Clone, Copy)]
struct Place {
    index: usize,
    last: bool,
    passed: bool,
}

fn running_sidecar(
    out: &mut InitPlan,
    container: &Container,
    status: &ContainerStatus,
    place: Place,
    probes: &dyn ProbeResults,
) {
    let name = &container.name;
    if container.startup_probe.is_some() {
        match probes.startup(&status.id) {
            None => return,
            Some(true) => {}
            Some(false) => {
                out.kill.push(kill(status, format!("Init container {name} failed startup probe"), KillReason::Startup));
                out.start.push(place.index);
                return;
            }
        }
    }
    if place.last {
        out.initialized = true;
    } else if !place.passed {
        out.start.push(place.index + 1);
    }
    if definition_changed(container, status) {
        out.kill.push(kill(status, format!("Init container {name} definition changed"), KillReason::Other));
        out.start.push(place.index);
    } else if container.liveness_probe.is_some() && probes.liveness(&status.id) == Some(false) {
        out.kill.push(kill(status, format!("Init container {name} failed liveness probe"), KillReason::Liveness));
        out.start.push(place.index);
    }
}

/// Gives whether the pod has failed.
fn exited(
    out: &mut InitPlan,
    pod: &Pod,
    container: &Container,
    status: &ContainerStatus,
    observed: &Observed,
    place: Place,
) -> bool {
    if status.exit_code != 0 {
        if !restart::wanted(container, pod, observed) {
            return true;
        }
        out.start.push(place.index);
    } else if place.last {
        out.initialized = true;
    } else {
        out.start.push(place.index + 1);
    }
    false
}

/// Gives whether the pod has failed.
fn unknown(out: &mut InitPlan, pod: &Pod, container: &Container, status: &ContainerStatus, index: usize) -> bool {
    let again = match container.restart_policy.as_deref() {
        Some(policy) => policy != "Never",
        None => restart::pod_restarts_failures(pod),
    };
    if !again {
        return true;
    }
    let message = "Init container is in \"unknown\" state, try killing it before restart".to_owned();
    out.kill.push(kill(status, message, KillReason::Other));
    out.start.push(index);
    false
}
