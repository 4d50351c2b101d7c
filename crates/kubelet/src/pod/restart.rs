//! When an ended container is started again.

use node_api::ContainerState;

use crate::k8s::core::ContainerRestartRule;
use crate::k8s::{Container, Kind, Pod, PodExt};
use crate::pod::observed::Observed;

/// Whether the pod's own policy restarts failed containers.
#[must_use]
pub fn pod_restarts_failures(pod: &Pod) -> bool {
    pod.spec().restart_policy.as_deref() != Some("Never")
}

/// The rule that matches an exit code, first come first served.
#[must_use]
pub fn matching_rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy_rules.iter().flatten().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    })
}

/// Whether a container that ended with this code is started again: its rules, its own policy, then the pod's.
#[must_use]
pub fn after_exit(container: &Container, pod: &Pod, exit_code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        if let Some(rule) = matching_rule(container, exit_code)
            && matches!(rule.action.as_str(), "Restart" | "RestartAllContainers")
        {
            return true;
        }
        match policy {
            "Always" => return true,
            "OnFailure" => return exit_code != 0,
            "Never" => return false,
            _ => {}
        }
    }
    match pod.spec().restart_policy.as_deref() {
        Some("OnFailure") => exit_code != 0,
        Some("Never") => false,
        _ => true,
    }
}

/// Whether a container should be started, seen from what the runtime has of it.
#[must_use]
pub fn wanted(container: &Container, pod: &Pod, observed: &Observed) -> bool {
    if pod.is_deleting() {
        return false;
    }
    match observed.latest(&container.name) {
        None => true,
        Some(status) => match status.state {
            ContainerState::Running => false,
            ContainerState::Unknown | ContainerState::Created => true,
            ContainerState::Exited => after_exit(container, pod, status.exit_code),
        },
    }
}

/// Whether the container's last run succeeded.
#[must_use]
pub fn succeeded(container: &Container, observed: &Observed) -> bool {
    observed.latest(&container.name).is_some_and(|s| s.state == ContainerState::Exited && s.exit_code == 0)
}
