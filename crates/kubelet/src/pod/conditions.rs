//! The pod conditions that the kubelet owns.

use crate::k8s::{Container, ContainerStatus, Pod, PodCondition, PodExt, PodStatus, is_sidecar};
use crate::pod::observed::{Observed, SandboxNeed};

/// Types of the conditions below, which nobody else may set.
pub const OWNED: &[&str] = &[
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodReadyToStartContainers",
    "PodResizePending",
    "PodResizeInProgress",
];

/// All owned conditions of a pod, in upstream's order; `others` are those set by somebody else (readiness gates).
#[must_use]
pub fn generate(
    pod: &Pod,
    observed: &Observed,
    statuses: &[ContainerStatus],
    phase: &str,
    others: &[PodCondition],
) -> Vec<PodCondition> {
    let mut out = vec![
        ready_to_start(pod, observed),
        initialized(pod, statuses, phase),
        ready(pod, statuses, phase, others),
        containers_ready(pod, statuses, phase, "ContainersReady"),
        condition("PodScheduled", true, None, None),
    ];
    for condition in &mut out {
        condition.observed_generation = pod.metadata.generation;
    }
    out
}

/// Takes over the times of transition from the former conditions; a change is stamped with `now`.
pub fn keep_times(conditions: &mut [PodCondition], old: &PodStatus, now: &crate::k8s::Time) {
    for condition in conditions {
        let former = old.conditions.iter().flatten().find(|c| c.type_ == condition.type_);
        condition.last_transition_time = match former {
            Some(former) if former.status == condition.status => {
                former.last_transition_time.clone().or_else(|| Some(now.clone()))
            }
            _ => Some(now.clone()),
        };
    }
}

fn condition(kind: &str, status: bool, reason: Option<&str>, message: Option<String>) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.map(str::to_owned),
        message,
        ..PodCondition::default()
    }
}

fn ready_to_start(pod: &Pod, observed: &Observed) -> PodCondition {
    let kept = matches!(observed.sandbox_need(pod), SandboxNeed::Keep(_));
    condition("PodReadyToStartContainers", kept, None, None)
}

fn find<'a>(statuses: &'a [ContainerStatus], container: &Container) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == container.name)
}

/// Go prints a slice of strings without commas.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn joined(first: (&str, &[&str]), second: (&str, &[&str])) -> Option<String> {
    let parts: Vec<String> = [first, second]
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}: {}", list(names)))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn initialized(pod: &Pod, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in pod.init_containers() {
        match find(statuses, container) {
            None => unknown.push(container.name.as_str()),
            Some(status) => {
                let done = if is_sidecar(container) { status.started == Some(true) } else { status.ready };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition("Initialized", true, Some("PodCompleted"), None);
    }
    let any_main_started = pod.spec().containers.iter().filter_map(|c| find(statuses, c)).any(|s| {
        let state = s.state.as_ref();
        let last = s.last_state.as_ref();
        state.is_some_and(|st| st.running.is_some() || st.terminated.is_some())
            || last.is_some_and(|l| l.terminated.is_some())
    });
    let message =
        joined(("containers with unknown status", &unknown), ("containers with incomplete status", &incomplete));
    match message {
        Some(message) if !any_main_started => {
            condition("Initialized", false, Some("ContainersNotInitialized"), Some(message))
        }
        _ => condition("Initialized", true, None, None),
    }
}

fn containers_ready(pod: &Pod, statuses: &[ContainerStatus], phase: &str, kind: &str) -> PodCondition {
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for container in
        pod.all_containers().filter(|c| is_sidecar(c) || pod.spec().containers.iter().any(|m| m.name == c.name))
    {
        match find(statuses, container) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(kind, false, Some("PodCompleted"), None);
    }
    if phase == "Failed" {
        return condition(kind, false, Some("PodFailed"), None);
    }
    match joined(("containers with unknown status", &unknown), ("containers with unready status", &unready)) {
        Some(message) => condition(kind, false, Some("ContainersNotReady"), Some(message)),
        None => condition(kind, true, None, None),
    }
}

fn ready(pod: &Pod, statuses: &[ContainerStatus], phase: &str, others: &[PodCondition]) -> PodCondition {
    let containers = containers_ready(pod, statuses, phase, "Ready");
    if containers.status != "True" {
        return containers;
    }
    let mut messages = Vec::new();
    for gate in pod.spec().readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match others.iter().find(|c| c.type_ == *kind) {
            None => messages.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(c) if c.status != "True" => {
                messages.push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", c.status));
            }
            Some(_) => {}
        }
    }
    if messages.is_empty() {
        containers
    } else {
        condition("Ready", false, Some("ReadinessGatesNotReady"), Some(messages.join(", ")))
    }
}
