//! What the supervisor runs, in the words and JSON names of the OCI runtime specification; what that lacks is under
//! `corten`. Everything is decided: no defaults are added later.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The version of the specification.
    pub oci_version: String,
    /// The first process.
    pub process: Process,
    /// The root file system.
    pub root: Root,
    /// Mounts, in order.
    pub mounts: Vec<Mount>,
    /// Linux.
    pub linux: Linux,
    /// What OCI has no words for.
    pub corten: Extension,
}

/// A process: the container's first, or one of exec.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// On a terminal.
    pub terminal: bool,
    /// Whose.
    pub user: User,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Capabilities; `None` keeps the runtime's.
    pub capabilities: Capabilities,
    /// Limits.
    pub rlimits: Vec<Rlimit>,
    /// No more privileges by set-user-id programs.
    pub no_new_privileges: bool,
    /// OOM score.
    pub oom_score_adj: Option<i32>,
}

/// A process' identity.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub additional_gids: Vec<u32>,
}

/// Capability names (`CAP_…`) per set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Bounding set.
    pub bounding: Vec<String>,
    /// Effective set.
    pub effective: Vec<String>,
    /// Permitted set.
    pub permitted: Vec<String>,
    /// Inheritable set.
    pub inheritable: Vec<String>,
    /// Ambient set.
    pub ambient: Vec<String>,
}

/// One resource limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Soft.
    pub soft: u64,
    /// Hard.
    pub hard: u64,
}

/// The root file system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Where it is mounted while it is set up.
    pub path: PathBuf,
    /// Read-only.
    pub readonly: bool,
}

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where, inside.
    pub destination: String,
    /// `bind`, `tmpfs`, `proc`, ...; `image` for an image's content (ours).
    #[serde(rename = "type")]
    pub kind: String,
    /// What.
    pub source: String,
    /// Options by their names in OCI.
    pub options: Vec<String>,
    /// Layers of an image mount, the lowest first (ours).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<PathBuf>,
}

/// Linux.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// The container's group, from the hierarchies' roots.
    pub cgroups_path: String,
    /// Limits.
    pub resources: Resources,
    /// Device nodes.
    pub devices: Vec<Device>,
    /// Paths hidden.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
}

/// Limits, flat; see `sys::cgroup::Resources`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// CPU shares.
    pub cpu_shares: Option<u64>,
    /// CPU quota.
    pub cpu_quota: Option<i64>,
    /// CPU period.
    pub cpu_period: Option<u64>,
    /// Memory, bytes.
    pub memory_limit: Option<i64>,
    /// Memory and swap, bytes.
    pub memory_swap_limit: Option<i64>,
    /// Tasks.
    pub pids_limit: Option<i64>,
    /// CPUs.
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Huge pages.
    pub hugepages: Vec<(String, u64)>,
    /// Raw v2 files.
    pub unified: Vec<(String, String)>,
    /// Device access allowed, as `c 1:3 rwm`; `None` allows all.
    pub devices: Option<Vec<String>>,
}

/// A device node to make.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// Where, inside.
    pub path: String,
    /// `c` or `b`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Mode bits.
    pub file_mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Which PID namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// The container's own.
    #[default]
    Container,
    /// The pod's.
    Pod,
    /// The node's.
    Node,
    /// Another container's.
    Target(String),
}

/// What OCI has no words for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Extension {
    /// The image's layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// Compiled seccomp filters, in the order of installing.
    pub seccomp: Vec<PathBuf>,
    /// PID namespace.
    pub pid: PidMode,
    /// A stdin is kept open.
    pub stdin: bool,
    /// It is closed when the first attach ends.
    pub stdin_once: bool,
    /// The log; empty for none.
    pub log_path: PathBuf,
    /// Cgroups are shown writable (privileged, v2 only).
    pub cgroup_writable: bool,
}

impl Resources {
    /// The form `sys` writes. Device rules that do not parse are refused by [`parse_device`].
    #[must_use]
    pub fn to_sys(&self) -> sys::cgroup::Resources {
        sys::cgroup::Resources {
            cpu_shares: self.cpu_shares,
            cpu_quota: self.cpu_quota,
            cpu_period: self.cpu_period,
            memory_limit: self.memory_limit,
            memory_swap_limit: self.memory_swap_limit,
            pids_limit: self.pids_limit,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            hugepages: self.hugepages.clone(),
            unified: self.unified.clone(),
            devices: self.devices.as_ref().map(|list| list.iter().filter_map(|d| parse_device(d)).collect()),
        }
    }
}

/// Reads `c 1:3 rwm`, with `*` for any number.
#[must_use]
pub fn parse_device(rule: &str) -> Option<sys::cgroup::DeviceAccess> {
    let mut fields = rule.split_whitespace();
    let kind = match fields.next()? {
        "c" => sys::devices::DeviceKind::Char,
        "b" => sys::devices::DeviceKind::Block,
        _ => return None,
    };
    let (major, minor) = fields.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let access = fields.next()?.to_owned();
    Some(sys::cgroup::DeviceAccess { kind, major: number(major)?, minor: number(minor)?, access })
}
