//! What has to be done about a pod: a pure function of its spec, of what the runtime has, and of probe results.

use node_api::ContainerState;

use crate::k8s::{Container, Pod, PodExt, ephemeral_as_container};
use crate::pod::observed::{Observed, SandboxNeed};
use crate::pod::{labels, plan_init, restart};

/// Results of probes, by container id; `None` while a probe has no result.
pub trait ProbeResults {
    /// Liveness.
    fn liveness(&self, container_id: &str) -> Option<bool>;
    /// Startup.
    fn startup(&self, container_id: &str) -> Option<bool>;
}

/// Which list of the spec a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `ephemeralContainers`.
    Ephemeral,
    /// `initContainers`.
    Init,
    /// `containers`.
    Main,
}

/// A container to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Which list.
    pub kind: Kind,
    /// Position in it.
    pub index: usize,
}

/// Why a container is killed; decides which grace period holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// The definition changed or its state is unknown.
    Other,
    /// The startup probe failed.
    Startup,
    /// The liveness probe failed.
    Liveness,
}

/// A container to kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The event's text.
    pub message: String,
    /// Why.
    pub reason: KillReason,
}

/// What to do, in upstream's terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Kill everything, the sandbox included.
    pub kill_pod: bool,
    /// Then make a sandbox with this attempt number.
    pub create_sandbox: Option<u32>,
    /// Kill these first.
    pub kill: Vec<Kill>,
    /// Then start these, in order.
    pub start: Vec<Start>,
}

/// The container a [`Start`] names.
#[must_use]
pub fn container(pod: &Pod, start: Start) -> Option<Container> {
    match start.kind {
        Kind::Main => pod.spec().containers.get(start.index).cloned(),
        Kind::Init => pod.init_containers().get(start.index).cloned(),
        Kind::Ephemeral => pod.spec().ephemeral_containers.as_ref()?.get(start.index).map(ephemeral_as_container),
    }
}

/// Makes the plan for a pod that shall run.
#[must_use]
pub fn plan(pod: &Pod, observed: &Observed, probes: &dyn ProbeResults) -> Plan {
    if let SandboxNeed::New(attempt) = observed.sandbox_need(pod) {
        return plan_sandbox(pod, observed, attempt);
    }
    let mut plan = Plan::default();
    for (index, ephemeral) in pod.spec().ephemeral_containers.iter().flatten().enumerate() {
        if observed.latest(&ephemeral.name).is_none() {
            plan.start.push(Start { kind: Kind::Ephemeral, index });
        }
    }
    let init = plan_init::plan(pod, observed, probes);
    plan.kill.extend(init.kill);
    plan.kill_pod = init.kill_pod;
    let init_starts = init.start.into_iter().map(|index| Start { kind: Kind::Init, index });
    if init.kill_pod || !init.initialized {
        plan.start.extend(init_starts);
        return plan;
    }
    let mains = plan_mains(pod, observed, probes);
    plan.kill.extend(mains.kill);
    if mains.kept == 0 && mains.start.is_empty() {
        // Sidecars must not keep a finished pod alive.
        plan.kill_pod = true;
    } else {
        plan.start.extend(init_starts);
        plan.start.extend(mains.start.into_iter().map(|index| Start { kind: Kind::Main, index }));
    }
    plan
}

fn plan_sandbox(pod: &Pod, observed: &Observed, attempt: u32) -> Plan {
    let mut plan = Plan { kill_pod: true, ..Plan::default() };
    if !restart::pod_restarts_failures(pod) && attempt != 0 && !observed.containers.is_empty() {
        return plan;
    }
    let of_pod = pod.spec().restart_policy.as_deref();
    let mains = pod.spec().containers.iter().enumerate().filter(|(_, c)| {
        let once = c.restart_policy.as_deref().or(of_pod) == Some("OnFailure");
        !(once && restart::succeeded(c, observed))
    });
    let start: Vec<Start> = mains.map(|(index, _)| Start { kind: Kind::Main, index }).collect();
    if start.is_empty() && observed.any_main_created(pod) {
        return plan;
    }
    plan.create_sandbox = Some(attempt);
    plan.start = if pod.init_containers().is_empty() { start } else { vec![Start { kind: Kind::Init, index: 0 }] };
    plan
}

struct Mains {
    kept: usize,
    start: Vec<usize>,
    kill: Vec<Kill>,
}

fn plan_mains(pod: &Pod, observed: &Observed, probes: &dyn ProbeResults) -> Mains {
    let mut mains = Mains { kept: 0, start: Vec::new(), kill: Vec::new() };
    for (index, container) in pod.spec().containers.iter().enumerate() {
        let status = observed.latest(&container.name);
        let Some(status) = status.filter(|s| s.state == ContainerState::Running) else {
            if restart::wanted(container, pod, observed) {
                mains.start.push(index);
                if let Some(status) = status.filter(|s| s.state == ContainerState::Unknown) {
                    let message = "Container is in \"unknown\" state, try killing it before restart".to_owned();
                    mains.kill.push(kill(status, message, KillReason::Other));
                }
            }
            continue;
        };
        let mut again = match container.restart_policy.as_deref() {
            Some(policy) => policy != "Never",
            None => restart::pod_restarts_failures(pod),
        };
        let name = &container.name;
        let (message, reason) = if definition_changed(container, status) {
            again = true;
            (format!("Container {name} definition changed"), KillReason::Other)
        } else if probes.liveness(&status.id) == Some(false) {
            (format!("Container {name} failed liveness probe"), KillReason::Liveness)
        } else if probes.startup(&status.id) == Some(false) {
            (format!("Container {name} failed startup probe"), KillReason::Startup)
        } else {
            mains.kept += 1;
            continue;
        };
        if again {
            mains.start.push(index);
            mains.kill.push(kill(status, format!("{message}, will be restarted"), reason));
        } else {
            mains.kill.push(kill(status, message, reason));
        }
    }
    mains
}

/// A kill of an observed container.
pub(crate) fn kill(status: &node_api::ContainerStatus, message: String, reason: KillReason) -> Kill {
    Kill { id: status.id.clone(), name: status.metadata.name.clone(), message, reason }
}

/// Whether the container was made from another definition.
pub(crate) fn definition_changed(container: &Container, status: &node_api::ContainerStatus) -> bool {
    status.annotations.get(labels::HASH).is_some_and(|hash| *hash != labels::hash(container))
}

#[cfg(test)]
mod tests;
