//! The two services of CRI v1.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::*;

/// Name and versions of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionInfo {
    /// `corten`, `containerd`, ...
    pub runtime_name: String,
    /// Its version.
    pub runtime_version: String,
    /// `v1`.
    pub runtime_api_version: String,
}

/// One condition of the runtime (`RuntimeReady`, `NetworkReady`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeCondition {
    /// Type.
    pub kind: String,
    /// Whether it holds.
    pub status: bool,
    /// A CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What a runtime handler can do (node status).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeHandler {
    /// Name; empty for the default.
    pub name: String,
    /// Recursive read-only mounts.
    pub recursive_read_only_mounts: bool,
    /// User namespaces.
    pub user_namespaces: bool,
}

/// The runtime's health.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// Conditions.
    pub conditions: Vec<RuntimeCondition>,
    /// Handlers.
    pub handlers: Vec<RuntimeHandler>,
    /// Whether `supplementalGroupsPolicy` is honoured.
    pub supplemental_groups_policy: bool,
}

/// Who makes cgroup names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Plain directories.
    #[default]
    Cgroupfs,
    /// Slices and scopes of systemd.
    Systemd,
}

/// Sandboxes and containers. All calls are idempotent where CRI's are: stop and remove succeed on what is stopped or
/// gone; create is not.
#[async_trait]
pub trait RuntimeService: Send + Sync {
    /// Name and versions.
    async fn version(&self) -> Result<VersionInfo>;
    /// Conditions and abilities.
    async fn status(&self) -> Result<RuntimeStatus>;
    /// Who makes cgroup names.
    async fn cgroup_driver(&self) -> Result<CgroupDriver>;
    /// Pod CIDRs of the node, for the network.
    async fn update_pod_cidrs(&self, cidrs: &[String]) -> Result<()>;

    /// Makes and starts a sandbox, network included; leaves nothing behind on an error.
    async fn run_pod_sandbox(&self, config: &PodSandboxConfig, runtime_handler: &str) -> Result<String>;
    /// Kills all containers, gives back the network. The sandbox stays, not ready, with its containers' statuses.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    /// Removes a sandbox and everything of it, by force.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    /// One sandbox.
    async fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatus>;
    /// Sandboxes, in no order.
    async fn list_pod_sandboxes(&self, filter: &PodSandboxFilter) -> Result<Vec<PodSandbox>>;
    /// Changes a pod's cgroup and overhead (in-place resize).
    async fn update_pod_sandbox_resources(
        &self,
        id: &str,
        overhead: Option<&LinuxResources>,
        resources: Option<&LinuxResources>,
    ) -> Result<()>;

    /// Makes a container: root file system, mounts and namespaces are checked, nothing runs yet.
    async fn create_container(&self, sandbox_id: &str, config: &ContainerConfig) -> Result<String>;
    /// Starts it; an error (program not found, ...) also becomes its exit reason `StartError`.
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Sends the stop signal, kills after `timeout` (at once for zero), returns when it has ended.
    async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()>;
    /// Removes it, killing it first where it runs.
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// Containers, in no order.
    async fn list_containers(&self, filter: &ContainerFilter) -> Result<Vec<Container>>;
    /// One container.
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;
    /// Changes a container's limits while it is there.
    async fn update_container_resources(&self, id: &str, resources: &LinuxResources) -> Result<()>;
    /// Opens the log anew, after the kubelet has rotated it.
    async fn reopen_container_log(&self, id: &str) -> Result<()>;

    /// Runs a command to its end and keeps its output.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] when `timeout` (if any) passed; the command is then killed.
    async fn exec_sync(&self, id: &str, cmd: &[String], timeout: Option<Duration>) -> Result<ExecSyncResult>;
    /// Runs a command with streams.
    async fn exec(&self, request: &ExecRequest) -> Result<ProcessStreams>;
    /// Joins the streams of the container's first process.
    async fn attach(&self, request: &AttachRequest) -> Result<ProcessStreams>;
    /// Connects to a port on the pod's loopback.
    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>>;

    /// One container's usage.
    async fn container_stats(&self, id: &str) -> Result<ContainerStats>;
    /// Usage of containers.
    async fn list_container_stats(&self, filter: &ContainerFilter) -> Result<Vec<ContainerStats>>;
    /// One pod's usage.
    async fn pod_sandbox_stats(&self, id: &str) -> Result<PodSandboxStats>;
    /// Usage of pods.
    async fn list_pod_sandbox_stats(&self, filter: &PodSandboxFilter) -> Result<Vec<PodSandboxStats>>;

    /// Events from now on: subscribe first, list afterwards, and nothing is missed.
    async fn container_events(&self) -> Result<EventStream>;
}

/// Images.
#[async_trait]
pub trait ImageService: Send + Sync {
    /// All images, or those that match a reference.
    async fn list_images(&self, filter: Option<&ImageSpec>) -> Result<Vec<Image>>;
    /// One image by reference, digest or id; `None` where it is not stored.
    async fn image_status(&self, image: &ImageSpec) -> Result<Option<Image>>;
    /// Pulls an image and gives its id. Concurrent pulls of one image are one pull. `progress` is bounded; what does
    /// not fit is left out.
    ///
    /// # Errors
    /// [`Error::InvalidImageName`], [`Error::ImagePull`].
    async fn pull_image(
        &self,
        image: &ImageSpec,
        auth: Option<&AuthConfig>,
        progress: Option<mpsc::Sender<PullProgress>>,
    ) -> Result<String>;
    /// Removes a name, and the image with its last name; an id removes all names. Absent is fine.
    async fn remove_image(&self, image: &ImageSpec) -> Result<()>;
    /// Space used by images, and by containers' writable layers.
    async fn image_fs_info(&self) -> Result<Vec<FilesystemUsage>>;
}
