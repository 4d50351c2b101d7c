//! A pod's attachment to the network.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{PodSandboxMetadata, PortMapping, StringMap};

/// The pod to attach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkRequest {
    /// The sandbox's id (`CNI_CONTAINERID`).
    pub sandbox_id: String,
    /// Whose it is (`K8S_POD_*` in `CNI_ARGS`).
    pub metadata: PodSandboxMetadata,
    /// The pinned network namespace (`CNI_NETNS`); on teardown it may be gone.
    pub netns: PathBuf,
    /// Host ports (capability `portMappings`).
    pub port_mappings: Vec<PortMapping>,
    /// DNS given to plugins that want it (capability `dns`).
    pub dns: Option<crate::DnsConfig>,
    /// The pod's annotations (bandwidth).
    pub annotations: StringMap,
    /// The pod's cgroup path (capability `cgroupPath`).
    pub cgroup_parent: String,
}

/// What the attachment gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkAttachment {
    /// Addresses, at most one per family, the main one first.
    pub ips: Vec<IpAddr>,
}

/// The pod network; implemented by `cni`, called by the runtime.
#[async_trait::async_trait]
pub trait NetworkService: Send + Sync {
    /// Attaches the pod. On error the implementation has undone what it had done.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] while the network is not configured (the node is then not ready).
    async fn setup(&self, request: &NetworkRequest) -> crate::Result<NetworkAttachment>;

    /// Detaches the pod; succeeds where nothing is left to do.
    async fn teardown(&self, request: &NetworkRequest) -> crate::Result<()>;

    /// Whether the attachment still is as it was made.
    async fn check(&self, request: &NetworkRequest) -> crate::Result<()>;

    /// Whether pods can be attached; an error says why not and becomes the node's `NetworkReady` condition.
    async fn ready(&self) -> crate::Result<()>;

    /// Removes attachments of sandboxes that are not in `live` (CNI `GC`).
    async fn gc(&self, live: &[NetworkRequest]) -> crate::Result<()>;

    /// The node's pod CIDRs changed (CRI `UpdateRuntimeConfig`).
    async fn set_pod_cidrs(&self, cidrs: &[String]) -> crate::Result<()>;
}
