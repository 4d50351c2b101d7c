//! Pod sandboxes: what all containers of a pod share.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::LinuxResources;

/// Sorted string pairs: labels, annotations, sysctls.
pub type StringMap = BTreeMap<String, String>;

/// Who a sandbox belongs to; unique together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSandboxMetadata {
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// How many sandboxes the pod had before this one.
    pub attempt: u32,
}

/// Everything needed to make a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSandboxConfig {
    /// Whose sandbox it is.
    pub metadata: PodSandboxMetadata,
    /// The host name inside; empty means the node's (host network).
    pub hostname: String,
    /// The directory that containers' `log_path` are relative to.
    pub log_directory: String,
    /// What resolv.conf must hold; the runtime writes it and mounts it unless a container mounts its own.
    pub dns_config: Option<DnsConfig>,
    /// Host ports, for the network's portmap.
    pub port_mappings: Vec<PortMapping>,
    /// Labels, kept and filtered by.
    pub labels: StringMap,
    /// Annotations, kept and passed to the network.
    pub annotations: StringMap,
    /// Namespaces, cgroup, sysctls.
    pub linux: LinuxPodSandboxConfig,
}

/// The content of a resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One host port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortMapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The port inside the pod.
    pub container_port: u16,
    /// The port on the host; 0 means none.
    pub host_port: u16,
    /// The host's address, empty for all.
    pub host_ip: String,
}

/// Linux properties of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxPodSandboxConfig {
    /// The pod's cgroup, relative to the hierarchy's root, made by whoever plans QoS; empty for none.
    pub cgroup_parent: String,
    /// Namespaces and credentials.
    pub security_context: SandboxSecurityContext,
    /// Sysctls set in the pod's namespaces.
    pub sysctls: StringMap,
    /// The pod's overhead.
    pub overhead: Option<LinuxResources>,
    /// The sum of the containers' resources.
    pub resources: Option<LinuxResources>,
}

/// How a namespace is shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// One for the pod (`shareProcessNamespace: true` for PID).
    #[default]
    Pod,
    /// One for each container; PID only.
    Container,
    /// The node's.
    Node,
    /// That of another container (ephemeral debug containers), PID only; see [`NamespaceOption::target_id`].
    Target,
}

/// Which namespaces are whose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceOption {
    /// Network.
    pub network: NamespaceMode,
    /// Processes.
    pub pid: NamespaceMode,
    /// System V IPC and POSIX queues.
    pub ipc: NamespaceMode,
    /// The container whose PID namespace is joined with [`NamespaceMode::Target`].
    pub target_id: String,
    /// The user namespace; `None` means the node's.
    pub user_namespace: Option<UserNamespace>,
}

/// A user namespace of the pod (`hostUsers: false`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserNamespace {
    /// User ids.
    pub uids: Vec<IdMapping>,
    /// Group ids.
    pub gids: Vec<IdMapping>,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdMapping {
    /// First id outside.
    pub host_id: u32,
    /// First id inside.
    pub container_id: u32,
    /// How many.
    pub length: u32,
}

/// How `supplementalGroups` and the image's /etc/group combine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    /// The groups of the image's /etc/group are added.
    #[default]
    Merge,
    /// Only the groups given.
    Strict,
}

/// A confinement profile (seccomp, AppArmor).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    /// None.
    #[default]
    Unconfined,
    /// The runtime's own default.
    RuntimeDefault,
    /// A profile of the node: a file's full path for seccomp, a loaded profile's name for AppArmor.
    Localhost(String),
}

/// Security of the sandbox as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSecurityContext {
    /// Namespaces.
    pub namespace_options: NamespaceOption,
    /// Whether privileged containers will be in it.
    pub privileged: bool,
    /// The sandbox's user, where the runtime runs a process for it.
    pub run_as_user: Option<i64>,
    /// Its group.
    pub run_as_group: Option<i64>,
    /// Its supplemental groups.
    pub supplemental_groups: Vec<i64>,
    /// Its seccomp profile.
    pub seccomp: SecurityProfile,
}

/// A sandbox's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PodSandboxState {
    /// Its namespaces and supervisor are there.
    Ready,
    /// It was stopped, or its supervisor died.
    #[default]
    NotReady,
}

/// One sandbox in a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodSandbox {
    /// Id.
    pub id: String,
    /// Whose.
    pub metadata: PodSandboxMetadata,
    /// State.
    pub state: PodSandboxState,
    /// Creation, ns since 1970.
    pub created_at: i64,
    /// Labels.
    pub labels: StringMap,
    /// Annotations.
    pub annotations: StringMap,
    /// The runtime handler asked for.
    pub runtime_handler: String,
}

/// What is known of a sandbox.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodSandboxStatus {
    /// Id.
    pub id: String,
    /// Whose.
    pub metadata: PodSandboxMetadata,
    /// State.
    pub state: PodSandboxState,
    /// Creation, ns since 1970.
    pub created_at: i64,
    /// The pod's addresses, one per family, the main one first; empty on the host network.
    pub network: Vec<IpAddr>,
    /// The pinned network namespace (`/run/...`), where the pod has its own.
    pub netns: Option<String>,
    /// Namespaces.
    pub namespace_options: NamespaceOption,
    /// Labels.
    pub labels: StringMap,
    /// Annotations.
    pub annotations: StringMap,
    /// The runtime handler asked for.
    pub runtime_handler: String,
}

/// Which sandboxes to list; empty fields match all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodSandboxFilter {
    /// This one only.
    pub id: Option<String>,
    /// In this state only.
    pub state: Option<PodSandboxState>,
    /// With all these labels.
    pub labels: StringMap,
}
