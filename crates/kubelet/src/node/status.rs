//! The content of the node's status and of its object at registration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use node_api::{Image, RuntimeStatus};

use super::machine::{self, Machine};
use crate::config::Config;
use crate::k8s::core::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, Taint,
};
use crate::k8s::{Node, ObjectMeta, Time};

const MAX_IMAGES: usize = 50;
const MAX_NAMES: usize = 5;
/// Features that the control plane asks nodes about and that this kubelet has. Of upstream's it lacks
/// `InPlacePodLevelResourcesVerticalScaling` (no status of pod-level resources), `RestartAllContainersOnContainerExits` and
/// `UserNamespacesHostNetworkSupport`; `InPlacePodVerticalScalingInitContainers` waits until it is seen to work.
pub const DECLARED: &[&str] = &["ExtendWebSocketsToKubelet"];

/// What a status is made of.
pub struct Inputs<'a> {
    /// Settings.
    pub config: &'a Config,
    /// The machine.
    pub machine: &'a Machine,
    /// Addresses.
    pub addresses: &'a [IpAddr],
    /// Name and version of the runtime.
    pub runtime: (&'a str, &'a str),
    /// The runtime's health; `None` where it does not answer.
    pub health: Option<&'a RuntimeStatus>,
    /// Images.
    pub images: &'a [Image],
    /// The former status.
    pub old: &'a NodeStatus,
    /// The wall clock.
    pub now: Time,
}

/// Makes the status.
#[must_use]
pub fn status(inputs: &Inputs<'_>) -> NodeStatus {
    let health = inputs.health;
    let (mut capacity, mut allocatable) =
        (inputs.machine.capacity(inputs.config), inputs.machine.allocatable(inputs.config));
    // What others advertise on the node's object stays, and may be used.
    for (name, amount) in inputs.old.capacity.iter().flatten().filter(|(name, _)| is_extended(name)) {
        capacity.insert(name.clone(), amount.clone());
        allocatable.insert(name.clone(), amount.clone());
    }
    NodeStatus {
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        addresses: Some(addresses(inputs)),
        conditions: Some(conditions(inputs)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(inputs.config.server.port) }),
        }),
        node_info: Some(machine::info(inputs.runtime.0, inputs.runtime.1)),
        images: Some(images(inputs.images)),
        features: health.map(|h| NodeFeatures { supplemental_groups_policy: Some(h.supplemental_groups_policy) }),
        runtime_handlers: health.map(|h| {
            let one = |r: &node_api::RuntimeHandler| NodeRuntimeHandler {
                name: Some(r.name.clone()),
                features: Some(NodeRuntimeHandlerFeatures {
                    recursive_read_only_mounts: Some(r.recursive_read_only_mounts),
                    // The kubelet allocates no user ids yet, whatever the runtime could do.
                    user_namespaces: Some(false),
                }),
            };
            h.handlers.iter().map(one).collect()
        }),
        declared_features: Some(DECLARED.iter().map(|name| (*name).to_owned()).collect()),
        ..NodeStatus::default()
    }
}

/// Whether a resource belongs to a vendor.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

fn addresses(inputs: &Inputs<'_>) -> Vec<NodeAddress> {
    let one = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let mut list: Vec<_> = inputs.addresses.iter().map(|ip| one("InternalIP", ip.to_string())).collect();
    list.push(one("Hostname", inputs.config.hostname.clone()));
    list
}

fn images(images: &[Image]) -> Vec<ContainerImage> {
    let mut sorted: Vec<&Image> = images.iter().collect();
    sorted.sort_by_key(|i| (std::cmp::Reverse(i.size), i.id.clone()));
    let one = |image: &&Image| ContainerImage {
        names: Some(image.repo_digests.iter().chain(&image.repo_tags).take(MAX_NAMES).cloned().collect()),
        size_bytes: i64::try_from(image.size).ok(),
    };
    sorted.iter().take(MAX_IMAGES).map(one).collect()
}

fn conditions(inputs: &Inputs<'_>) -> Vec<NodeCondition> {
    let failing: Vec<String> = match inputs.health {
        None => vec!["container runtime is down".to_owned()],
        Some(health) => health
            .conditions
            .iter()
            .filter(|c| !c.status)
            .map(|c| {
                let what = if c.kind == "NetworkReady" {
                    "container runtime network not ready"
                } else {
                    "container runtime not ready"
                };
                format!("{what}: {}=false reason:{} message:{}", c.kind, c.reason, c.message)
            })
            .collect(),
    };
    let ready = if failing.is_empty() {
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status".to_owned())
    } else {
        ("Ready", "False", "KubeletNotReady", format!("[{}]", failing.join(", ")).trim_matches(['[', ']']).to_owned())
    };
    let all = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available".to_owned()),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure".to_owned()),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available".to_owned()),
        ready,
    ];
    let ours = all.into_iter().map(|(kind, status, reason, message)| {
        let former = inputs.old.conditions.iter().flatten().find(|c| c.type_ == kind);
        let since = former.filter(|f| f.status == status).and_then(|f| f.last_transition_time.clone());
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(inputs.now.clone()),
            last_transition_time: since.or_else(|| Some(inputs.now.clone())),
        }
    });
    // Conditions of others (network plugins, problem detectors) stay.
    let kinds = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];
    let others = inputs.old.conditions.iter().flatten().filter(|c| !kinds.contains(&c.type_.as_str())).cloned();
    others.chain(ours).collect()
}

/// Labels the node registers with.
#[must_use]
pub fn labels(config: &Config) -> BTreeMap<String, String> {
    let arch = machine::architecture();
    let own = [
        ("kubernetes.io/hostname", config.hostname.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ];
    let mut labels: BTreeMap<String, String> = own.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    labels.extend(config.node_labels.clone());
    labels
}

/// The object to register.
#[must_use]
pub fn node(config: &Config, status: NodeStatus) -> Node {
    let mut taints = config.taints.clone();
    if config.unschedulable {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        taints.push(taint);
    }
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config)),
            annotations: Some(
                [("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())].into(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            unschedulable: config.unschedulable.then_some(true),
            provider_id: Some(config.provider_id.clone()).filter(|p| !p.is_empty()),
            ..NodeSpec::default()
        }),
        status: Some(status),
    }
}
