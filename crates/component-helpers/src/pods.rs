//! What pods are and how they stand: phases, conditions, readiness, quality of service, names.

use api::k8s::core::v1::{Container, Pod, PodCondition};
use meta::quantity::Quantity;

/// A pod's condition of a type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

/// Whether a pod's condition of a type is True.
pub fn condition_is_true(pod: &Pod, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|c| c.status == "True")
}

/// Whether the pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    condition_is_true(pod, "Ready")
}

/// Whether the pod has been ready for `min_ready_seconds`, at `now` (seconds since the epoch).
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: i64) -> bool {
    let Some(ready) = condition(pod, "Ready").filter(|c| c.status == "True") else { return false };
    if min_ready_seconds == 0 {
        return true;
    }
    ready.last_transition_time.as_ref().is_some_and(|at| at.0.as_second() + i64::from(min_ready_seconds) <= now)
}

/// The phase, empty when unknown.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("")
}

/// Whether the pod has ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the pod is neither ended nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether an init container keeps running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The name of the node, empty while unscheduled.
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or("")
}

/// `Guaranteed`, `Burstable` or `BestEffort`: what the status says, or else what follows from the spec.
pub fn qos_class(pod: &Pod) -> &'static str {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => "Guaranteed",
        Some("Burstable") => "Burstable",
        Some("BestEffort") => "BestEffort",
        _ => qos_from_spec(pod),
    }
}

fn qos_from_spec(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    let amount = |list: Option<&std::collections::BTreeMap<String, api::prelude::Quantity>>, name: &str| {
        let value: Quantity = list?.get(name)?.0.parse().ok()?;
        (!value.is_zero()).then_some(value)
    };
    let whole = spec.resources.as_ref().filter(|r| {
        ["cpu", "memory"]
            .iter()
            .any(|n| amount(r.limits.as_ref(), n).is_some() || amount(r.requests.as_ref(), n).is_some())
    });
    let init = spec.init_containers.iter().flatten();
    let holders: Vec<_> = match whole {
        Some(resources) => vec![Some(resources)],
        None => spec.containers.iter().chain(init).map(|c| c.resources.as_ref()).collect(),
    };
    let (mut any, mut guaranteed) = (false, true);
    for resources in holders {
        for name in ["cpu", "memory"] {
            let limit = resources.and_then(|r| amount(r.limits.as_ref(), name));
            let request = resources.and_then(|r| amount(r.requests.as_ref(), name));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// `{base}-{suffix}`, with the base cut so that the whole stays a valid name, as upstream's name generator does.
pub fn child_name(base: &str, suffix: &str) -> String {
    const LONGEST_BASE: usize = 58;
    let base = base.get(..LONGEST_BASE).unwrap_or(base);
    format!("{base}-{suffix}")
}
