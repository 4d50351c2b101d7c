//! Usage of containers and pods.

use crate::{ContainerMetadata, FilesystemUsage, PodSandboxMetadata, StringMap};

/// CPU time used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// When, ns since 1970.
    pub timestamp: i64,
    /// Since the group exists, ns.
    pub usage_core_nano_seconds: u64,
}

/// Memory used, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// When, ns since 1970.
    pub timestamp: i64,
    /// What counts against the limit: usage less inactive file pages.
    pub working_set_bytes: u64,
    /// The limit less the working set; `None` without a limit.
    pub available_bytes: Option<u64>,
    /// All, page cache included.
    pub usage_bytes: u64,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Minor faults.
    pub page_faults: u64,
    /// Major faults.
    pub major_page_faults: u64,
    /// Swap used.
    pub swap_usage_bytes: u64,
}

/// One container's usage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerStats {
    /// Id.
    pub id: String,
    /// Its sandbox.
    pub pod_sandbox_id: String,
    /// Name and attempt.
    pub metadata: ContainerMetadata,
    /// Labels.
    pub labels: StringMap,
    /// Annotations.
    pub annotations: StringMap,
    /// CPU.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// The writable layer; only where asked for, since it walks a tree.
    pub writable_layer: Option<FilesystemUsage>,
    /// Tasks.
    pub process_count: u64,
}

/// Traffic of one interface, bytes and packets since it exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceUsage {
    /// Name.
    pub name: String,
    /// Received.
    pub rx_bytes: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Send errors.
    pub tx_errors: u64,
}

/// One pod's usage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodSandboxStats {
    /// Id.
    pub id: String,
    /// Whose.
    pub metadata: PodSandboxMetadata,
    /// Labels.
    pub labels: StringMap,
    /// Annotations.
    pub annotations: StringMap,
    /// CPU of the whole pod.
    pub cpu: CpuUsage,
    /// Memory of the whole pod.
    pub memory: MemoryUsage,
    /// Interfaces of the pod; empty on the host network.
    pub interfaces: Vec<InterfaceUsage>,
    /// Tasks.
    pub process_count: u64,
    /// Its containers.
    pub containers: Vec<ContainerStats>,
}
