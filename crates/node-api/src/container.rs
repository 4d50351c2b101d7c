//! Containers: configuration, state, status.

use serde::{Deserialize, Serialize};

use crate::{NamespaceOption, SecurityProfile, StringMap, SupplementalGroupsPolicy};

/// A container's name within its pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerMetadata {
    /// The container's name.
    pub name: String,
    /// How many containers of this name the sandbox had before.
    pub attempt: u32,
}

/// An image as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSpec {
    /// Reference, digest or id.
    pub image: String,
    /// What the user wrote.
    pub user_specified_image: String,
    /// Annotations.
    pub annotations: StringMap,
    /// The handler the image is for.
    pub runtime_handler: String,
}

/// Everything needed to make a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Name and attempt.
    pub metadata: ContainerMetadata,
    /// Image; its id after a pull is best.
    pub image: ImageSpec,
    /// Replaces the image's entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's cmd.
    pub args: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: String,
    /// Environment, any names, in order, after the image's.
    pub envs: Vec<KeyValue>,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Names of CDI devices.
    pub cdi_devices: Vec<String>,
    /// Labels.
    pub labels: StringMap,
    /// Annotations.
    pub annotations: StringMap,
    /// The log, relative to the sandbox's `log_directory`; empty for none.
    pub log_path: String,
    /// Keep a stdin open for attach.
    pub stdin: bool,
    /// Close stdin when the first attach ends.
    pub stdin_once: bool,
    /// A terminal.
    pub tty: bool,
    /// Linux properties.
    pub linux: LinuxContainerConfig,
    /// Replaces the image's stop signal, as `SIGTERM` or a number; empty for none.
    pub stop_signal: String,
}

/// One environment variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyValue {
    /// Name.
    pub key: String,
    /// Value.
    pub value: String,
}

/// How mounts made on one side later appear on the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPropagation {
    /// `None`: private.
    #[default]
    Private,
    /// `HostToContainer`: rslave.
    HostToContainer,
    /// `Bidirectional`: rshared.
    Bidirectional,
}

/// A mount into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where, inside.
    pub container_path: String,
    /// What, on the node; empty where `image` is set.
    pub host_path: String,
    /// Read-only.
    pub readonly: bool,
    /// Read-only for submounts too; refused where the kernel cannot.
    pub recursive_read_only: bool,
    /// SELinux relabelling wanted.
    pub selinux_relabel: bool,
    /// Propagation.
    pub propagation: MountPropagation,
    /// Ids of an idmapped mount.
    pub uid_mappings: Vec<crate::IdMapping>,
    /// Ids of an idmapped mount.
    pub gid_mappings: Vec<crate::IdMapping>,
    /// An image volume: the image's content, always read-only.
    pub image: Option<ImageSpec>,
    /// A folder or file of that image only.
    pub image_sub_path: String,
}

/// A device node of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Path inside.
    pub container_path: String,
    /// Path on the node.
    pub host_path: String,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

/// Linux properties of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxContainerConfig {
    /// Limits.
    pub resources: LinuxResources,
    /// Security.
    pub security_context: ContainerSecurityContext,
}

/// Limits of a cgroup. `0` and `None` leave the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxResources {
    /// CFS period, µs.
    pub cpu_period: i64,
    /// CFS quota, µs; negative for none.
    pub cpu_quota: i64,
    /// CPU shares as on v1 (2..262144); converted to a weight on v2.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory_limit_bytes: i64,
    /// Memory and swap, bytes; as on v1.
    pub memory_swap_limit_bytes: i64,
    /// Score adjustment; clamped where CAP_SYS_RESOURCE is missing.
    pub oom_score_adj: i64,
    /// CPUs, as `0-1,3`.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// `2Mi` → bytes, page sizes as the kernel names them (`2MB`).
    pub hugepage_limits: Vec<(String, u64)>,
    /// Number of tasks; 0 for no limit.
    pub pids_limit: i64,
    /// Raw v2 settings, such as `memory.high`.
    pub unified: StringMap,
}

/// Capability names without or with `CAP_`; `ALL` is understood in both lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// To add to the default set.
    pub add: Vec<String>,
    /// To drop from it.
    pub drop: Vec<String>,
    /// To be ambient as well.
    pub add_ambient: Vec<String>,
}

/// Security of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSecurityContext {
    /// Capabilities.
    pub capabilities: Capabilities,
    /// All capabilities, all devices, no profile, writable /sys.
    pub privileged: bool,
    /// Namespaces; those of the sandbox except PID.
    pub namespace_options: NamespaceOption,
    /// User id.
    pub run_as_user: Option<i64>,
    /// User by name, looked up in the image; used where `run_as_user` is `None`.
    pub run_as_username: String,
    /// Group id; needs one of the above.
    pub run_as_group: Option<i64>,
    /// A read-only root file system.
    pub readonly_rootfs: bool,
    /// Supplemental groups.
    pub supplemental_groups: Vec<i64>,
    /// How they combine with the image's.
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    /// no_new_privs.
    pub no_new_privs: bool,
    /// Paths hidden; the defaults come from the kubelet (`procMount`).
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// Seccomp.
    pub seccomp: SecurityProfile,
    /// AppArmor; anything but unconfined is refused where the kernel has none.
    pub apparmor: SecurityProfile,
    /// SELinux label, refused where the kernel has none; empty for none.
    pub selinux_label: String,
}

/// A container's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
    /// Not known, for example because the supervisor was killed.
    #[default]
    Unknown,
}

/// One container in a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Container {
    /// Id.
    pub id: String,
    /// Its sandbox.
    pub pod_sandbox_id: String,
    /// Name and attempt.
    pub metadata: ContainerMetadata,
    /// Image as asked for.
    pub image: ImageSpec,
    /// The image's id.
    pub image_id: String,
    /// State.
    pub state: ContainerState,
    /// Creation, ns since 1970.
    pub created_at: i64,
    /// Labels.
    pub labels: StringMap,
    /// Annotations.
    pub annotations: StringMap,
}

/// Reason of a normal exit with code 0.
pub const REASON_COMPLETED: &str = "Completed";
/// Reason of an exit with another code.
pub const REASON_ERROR: &str = "Error";
/// Reason where the kernel's OOM killer ended the container.
pub const REASON_OOM_KILLED: &str = "OOMKilled";
/// Reason where the process could not be started.
pub const REASON_START_ERROR: &str = "StartError";
/// Reason where the runtime lost the container.
pub const REASON_UNKNOWN: &str = "ContainerStatusUnknown";

/// What is known of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerStatus {
    /// Id.
    pub id: String,
    /// Its sandbox.
    pub pod_sandbox_id: String,
    /// Name and attempt.
    pub metadata: ContainerMetadata,
    /// State.
    pub state: ContainerState,
    /// ns since 1970.
    pub created_at: i64,
    /// ns since 1970; 0 while not started.
    pub started_at: i64,
    /// ns since 1970; 0 while not finished.
    pub finished_at: i64,
    /// The exit code; 128 + n where signal n killed it.
    pub exit_code: i32,
    /// Image as asked for.
    pub image: ImageSpec,
    /// `name@sha256:…`, for the pod status' `imageID`; the image's id where no repository digest is known.
    pub image_ref: String,
    /// The image's id.
    pub image_id: String,
    /// One of the `REASON_` constants, empty while running.
    pub reason: String,
    /// A line for people.
    pub message: String,
    /// Labels.
    pub labels: StringMap,
    /// Annotations.
    pub annotations: StringMap,
    /// Mounts as configured.
    pub mounts: Vec<Mount>,
    /// The log's full path.
    pub log_path: String,
    /// Resources in effect.
    pub resources: LinuxResources,
    /// The user in effect: uid, gid and groups of the first process.
    pub user: Option<ContainerUser>,
    /// The stop signal in effect.
    pub stop_signal: String,
    /// The first process' id as the runtime sees it; 0 when not running.
    pub pid: u32,
}

/// The identity of a container's first process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerUser {
    /// User id.
    pub uid: i64,
    /// Group id.
    pub gid: i64,
    /// Supplemental groups, the main one included.
    pub supplemental_groups: Vec<i64>,
}

/// Which containers to list; empty fields match all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerFilter {
    /// This one only.
    pub id: Option<String>,
    /// In this state only.
    pub state: Option<ContainerState>,
    /// Of this sandbox only.
    pub pod_sandbox_id: Option<String>,
    /// With all these labels.
    pub labels: StringMap,
}
