//! Whether a pod may run on this node: the same questions the scheduler asked, asked again by the one who knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use volumes::quantity::{ResourceList, milli, value};

use crate::k8s::core::{Node, NodeSelectorRequirement, NodeSelectorTerm, Toleration};
use crate::k8s::{Kind, Pod, PodExt};
use crate::pod::status::Verdict;
use crate::spec::resources::pod_total;

const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// What the decision is made from.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The node's object, where there is one.
    pub node: Option<&'a Node>,
    /// Allocatable resources.
    pub allocatable: &'a ResourceList,
    /// Pods that already run here, this one not among them.
    pub others: &'a BTreeMap<String, Arc<Pod>>,
    /// Sysctls allowed beyond the safe ones.
    pub unsafe_sysctls: &'a [String],
}

fn reject(reason: &str, message: impl std::fmt::Display) -> Option<Verdict> {
    Some(Verdict {
        phase: "Failed",
        reason: reason.to_owned(),
        message: format!("Pod was rejected: {message}"),
        rejected: true,
    })
}

/// `None` admits; otherwise the pod fails with this verdict.
#[must_use]
pub fn check(inputs: &Inputs<'_>) -> Option<Verdict> {
    let pod = inputs.pod;
    let os = pod.spec().os.as_ref().map(|os| os.name.as_str());
    if os.is_some_and(|name| name != "linux") {
        return reject("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    if pod.spec().host_users == Some(false) {
        return reject(
            "UserNamespacesNotSupported",
            "user namespaces (hostUsers: false) are not supported by this kubelet",
        );
    }
    let restarts_all = |c: &crate::k8s::Container| {
        c.restart_policy_rules.iter().flatten().any(|rule| rule.action == "RestartAllContainers")
    };
    if pod.all_containers().any(restarts_all) {
        return reject(
            "PodFeatureUnsupported",
            "Pod requires node features that are not available: RestartAllContainersOnContainerExits",
        );
    }
    for sysctl in pod.spec().security_context.iter().flat_map(|c| c.sysctls.iter().flatten()) {
        let name = sysctl.name.replace('/', ".");
        let allowed = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        };
        if !SAFE_SYSCTLS.contains(&name.as_str()) && !inputs.unsafe_sysctls.iter().any(allowed) {
            return reject("SysctlForbidden", format!("forbidden sysctl: {:?} not allowlisted", sysctl.name));
        }
        let net = name.starts_with("net.");
        if (net && pod.host_network()) || (!net && pod.spec().host_ipc == Some(true)) {
            return reject(
                "SysctlForbidden",
                format!("forbidden sysctl: {:?} not allowed with host net/ipc enabled", sysctl.name),
            );
        }
    }
    if let Some(node) = inputs.node {
        if !pod.is_static() && !node_fits(pod, node) {
            return reject(
                "NodeAffinity",
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
            );
        }
        if let Some(key) = untolerated(pod, node) {
            return reject(
                "TaintToleration",
                format!("Predicate TaintToleration failed: node(s) had untolerated taint {{{key}}}"),
            );
        }
    }
    resources(inputs).or_else(|| ports(inputs))
}

fn resources(inputs: &Inputs<'_>) -> Option<Verdict> {
    let max = value(Some(inputs.allocatable), "pods").unwrap_or(110);
    if i64::try_from(inputs.others.len()).unwrap_or(i64::MAX) >= max {
        return reject(
            "OutOfpods",
            format!(
                "Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {max}",
                inputs.others.len()
            ),
        );
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        let wanted = pod_total(inputs.pod, name, false).unwrap_or(0);
        if wanted == 0 {
            continue;
        }
        let list = Some(inputs.allocatable);
        let capacity = if name == "cpu" { milli(list, name) } else { value(list, name) }.unwrap_or(0);
        let used: i64 = inputs.others.values().map(|p| pod_total(p, name, false).unwrap_or(0)).sum();
        if wanted > capacity - used {
            let text = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return reject(&format!("OutOf{name}"), text);
        }
    }
    extended(inputs)
}

/// Whether every container that asks for the resource has devices of a claim in its place.
fn is_by_devices(pod: &Pod, resource: &str) -> bool {
    let status = pod.status.as_ref().and_then(|s| s.extended_resource_claim_status.as_ref());
    status.is_some_and(|s| s.request_mappings.iter().any(|m| m.resource_name == resource))
}

/// Vendors' resources are counted by the node's object, where others advertise them as well; what it does not name is
/// not this kubelet's to count, and devices of claims were counted by the scheduler.
fn extended(inputs: &Inputs<'_>) -> Option<Verdict> {
    let advertised = inputs.node?.status.as_ref()?.allocatable.as_ref();
    let names: BTreeSet<&String> = inputs
        .pod
        .all_containers()
        .filter_map(|c| c.resources.as_ref()?.requests.as_ref())
        .flat_map(|requests| requests.keys())
        .filter(|name| name.contains('/') && !name.starts_with("kubernetes.io/") && !is_by_devices(inputs.pod, name))
        .collect();
    for name in names {
        let Some(capacity) = value(advertised, name) else { continue };
        let wanted = pod_total(inputs.pod, name, false).unwrap_or(0);
        let used: i64 = inputs.others.values().map(|p| pod_total(p, name, false).unwrap_or(0)).sum();
        if wanted > capacity - used && !inputs.pod.is_static() {
            let text = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return reject(&format!("OutOf{name}"), text);
        }
    }
    None
}

/// Whether a pod may have the resources it newly asks for: `None` grants; otherwise `Infeasible` or `Deferred`, and why.
#[must_use]
pub fn resize(
    pod: &Pod,
    allocatable: &ResourceList,
    others: &BTreeMap<String, Arc<Pod>>,
) -> Option<(&'static str, String)> {
    if pod.is_static() {
        return Some(("Infeasible", "In-place resize of static-pods is not supported".to_owned()));
    }
    for name in ["cpu", "memory"] {
        let wanted = pod_total(pod, name, false).unwrap_or(0);
        let list = Some(allocatable);
        let capacity = if name == "cpu" { milli(list, name) } else { value(list, name) }.unwrap_or(0);
        if wanted > capacity {
            let text = format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}");
            return Some(("Infeasible", text));
        }
        let used: i64 = others.values().map(|p| pod_total(p, name, false).unwrap_or(0)).sum();
        if wanted > capacity - used {
            let text = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Some(("Deferred", text));
        }
    }
    None
}

fn ports(inputs: &Inputs<'_>) -> Option<Verdict> {
    let wanted = host_ports(inputs.pod);
    let taken: Vec<_> = inputs.others.values().flat_map(|p| host_ports(p)).collect();
    let clash = |(port, protocol, ip): &(i32, String, String)| {
        taken.iter().any(|(p, proto, i)| p == port && proto == protocol && (i == ip || any(i) || any(ip)))
    };
    if wanted.iter().any(clash) {
        return reject(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        );
    }
    None
}

fn any(ip: &str) -> bool {
    matches!(ip, "" | "0.0.0.0" | "::")
}

fn host_ports(pod: &Pod) -> Vec<(i32, String, String)> {
    let ports = pod.all_containers().flat_map(|c| c.ports.iter().flatten());
    let one = |p: &crate::k8s::core::ContainerPort| {
        let port = p.host_port.filter(|p| *p > 0)?;
        Some((port, p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), p.host_ip.clone().unwrap_or_default()))
    };
    ports.filter_map(one).collect()
}

/// Whether the node matches the pod's selector and required affinity.
#[must_use]
pub fn node_fits(pod: &Pod, node: &Node) -> bool {
    let spec = pod.spec();
    let labels = node.labels();
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| term_fits(term, node)))
}

fn term_fits(term: &NodeSelectorTerm, node: &Node) -> bool {
    let (expressions, fields) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
    if expressions.is_none_or(<[_]>::is_empty) && fields.is_none_or(<[_]>::is_empty) {
        return false;
    }
    let labels = node.labels();
    let by_label = |r: &NodeSelectorRequirement| requirement(r, labels.get(&r.key).map(String::as_str));
    let by_field = |r: &NodeSelectorRequirement| r.key == "metadata.name" && requirement(r, Some(node.name()));
    expressions.unwrap_or_default().iter().all(by_label) && fields.unwrap_or_default().iter().all(by_field)
}

fn requirement(r: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let listed = || actual.is_some_and(|a| r.values.iter().flatten().any(|v| v == a));
    let compare = || {
        let number = |t: &str| t.parse::<i64>().ok();
        Some((number(actual?)?, number(r.values.as_ref()?.first()?)?))
    };
    match r.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => compare().is_some_and(|(a, b)| a > b),
        "Lt" => compare().is_some_and(|(a, b)| a < b),
        _ => false,
    }
}

/// A NoExecute taint of the node that the pod does not tolerate.
fn untolerated(pod: &Pod, node: &Node) -> Option<String> {
    if pod.is_static() {
        return None;
    }
    let tolerations = pod.spec().tolerations.as_deref().unwrap_or_default();
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let tolerated = |taint: &crate::k8s::core::Taint| {
        tolerations.iter().any(|t: &Toleration| {
            let effect = t.effect.as_deref().unwrap_or_default();
            let key = t.key.as_deref().unwrap_or_default();
            let by_value = match t.operator.as_deref().unwrap_or("Equal") {
                "Exists" => true,
                _ => t.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
            };
            (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key) && by_value
        })
    };
    let found = taints.iter().find(|t| t.effect == "NoExecute" && !tolerated(t))?;
    Some(format!("{}: {}", found.key, found.value.as_deref().unwrap_or_default()))
}
