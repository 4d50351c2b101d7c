//! From a container's configuration and its image to a finished spec.

mod env;
mod mounts;

use std::path::{Path, PathBuf};

use node_api::{
    ContainerConfig, ContainerSecurityContext, Error, ImageContent, LinuxResources, NamespaceMode, Result,
    SecurityProfile,
};

use super::Inner;
use super::pods::join_cgroup;
use super::records::Pod;
use super::user::{self, Resolved};
use crate::spec::{Capabilities, Device, Extension, Linux, PidMode, Process, Resources, Rlimit, Root, Spec, User};

/// The capabilities of a container that asks for nothing, as in docker and containerd.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Devices every container may use; nodes of all may be made.
const DEFAULT_DEVICES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// What comes of a configuration.
pub(super) struct Built {
    pub(super) spec: Spec,
    pub(super) user: Resolved,
    pub(super) stop_signal: String,
    pub(super) log_path: PathBuf,
    /// Images mounted as volumes, by id.
    pub(super) volume_images: Vec<String>,
}

impl Inner {
    /// Builds a container's spec.
    ///
    /// # Errors
    /// What cannot be run, or not confined as asked.
    pub(super) async fn build_spec(
        &self,
        pod: &Pod,
        id: &str,
        config: &ContainerConfig,
        image: &ImageContent,
    ) -> Result<Built> {
        let security = &config.linux.security_context;
        refuse_unsupported(security)?;
        let user = user::resolve(&image.layers, security, &image.config.user)?;
        let capabilities = capabilities(security, self.bounding)?;
        let devices = self.devices(config)?;
        let (mounts, volume_images) = self.mounts(pod, config).await?;
        let stop_signal = match (config.stop_signal.as_str(), image.config.stop_signal.as_str()) {
            ("", "") => "SIGTERM".to_owned(),
            ("", image) => image.to_owned(),
            (own, _) => own.to_owned(),
        };
        if sys::process::signal_number(&stop_signal).is_none() {
            return Err(Error::InvalidArgument(format!("unknown stop signal {stop_signal:?}")));
        }
        let log_path = match config.log_path.as_str() {
            "" => PathBuf::new(),
            path => Path::new(&pod.record.config.log_directory).join(path),
        };
        let dir = pod.container_dir(id);
        let process = Process {
            terminal: config.tty,
            user: User { uid: user.uid, gid: user.gid, additional_gids: user.groups.clone() },
            args: env::arguments(config, &image.config)?,
            env: env::environment(pod, config, &image.config, &user.home),
            cwd: first_of(&[&config.working_dir, &image.config.working_dir, "/"]),
            capabilities: sets(&capabilities, security)?,
            rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), soft: 65_536, hard: 1_048_576 }],
            no_new_privileges: security.no_new_privs,
            oom_score_adj: i32::try_from(config.linux.resources.oom_score_adj).ok(),
        };
        let seccomp = self.seccomp(security, &capabilities)?;
        let mut resources = resources(&config.linux.resources);
        resources.devices = device_rules(security, &devices, config);
        let (masked, readonly) = if security.privileged {
            (Vec::new(), Vec::new())
        } else {
            (security.masked_paths.clone(), security.readonly_paths.clone())
        };
        let spec = Spec {
            oci_version: "1.2.0".to_owned(),
            process,
            root: Root { path: dir.join("rootfs"), readonly: security.readonly_rootfs },
            mounts,
            linux: Linux {
                cgroups_path: join_cgroup(&pod.record.cgroup, id),
                resources,
                devices: devices.into_iter().map(|(device, _)| device).collect(),
                masked_paths: masked,
                readonly_paths: readonly,
            },
            corten: Extension {
                layers: image.layers.clone(),
                seccomp,
                pid: pid_mode(security),
                stdin: config.stdin,
                stdin_once: config.stdin_once,
                log_path: log_path.clone(),
                cgroup_writable: security.privileged,
            },
        };
        Ok(Built { spec, user, stop_signal, log_path, volume_images })
    }

    fn seccomp(&self, security: &ContainerSecurityContext, capabilities: &[String]) -> Result<Vec<PathBuf>> {
        if security.privileged {
            return Ok(Vec::new());
        }
        let bits = sys::caps::set_of(capabilities).unwrap_or(0);
        let dir = self.root.join("seccomp");
        let programs = match &security.seccomp {
            SecurityProfile::Unconfined => return Ok(Vec::new()),
            _ if !sys::seccomp::supported() => {
                return Err(Error::Unsupported("seccomp is not supported by this kernel".to_owned()));
            }
            SecurityProfile::RuntimeDefault => {
                if let Some(known) = self.default_filters.lock().get(&bits) {
                    return Ok(known.clone());
                }
                let made = crate::seccomp::runtime_default(&dir, bits);
                if let Ok(made) = &made {
                    self.default_filters.lock().insert(bits, made.clone());
                }
                made
            }
            SecurityProfile::Localhost(file) => crate::seccomp::localhost(&dir, Path::new(file), bits),
        };
        programs.map_err(|context| Error::Container { context, source: None })
    }

    /// Device nodes with the access asked for.
    fn devices(&self, config: &ContainerConfig) -> Result<Vec<(Device, String)>> {
        if !config.cdi_devices.is_empty() {
            return Err(Error::Unsupported("CDI devices are not supported".to_owned()));
        }
        let mut devices = Vec::new();
        for device in &config.devices {
            let host = Path::new(&device.host_path);
            let node = sys::devices::stat(host).map_err(super::sys_error)?;
            devices.push((to_device(&node, &device.container_path), device.permissions.clone()));
        }
        if config.linux.security_context.privileged {
            host_devices(Path::new("/dev"), 0, &mut devices);
        }
        Ok(devices)
    }
}

fn refuse_unsupported(security: &ContainerSecurityContext) -> Result<()> {
    if let SecurityProfile::Localhost(name) = &security.apparmor {
        return Err(Error::Unsupported(format!("apparmor is not supported: profile {name:?}")));
    }
    if !security.selinux_label.is_empty() && Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(Error::Unsupported("SELinux labels are not supported".to_owned()));
    }
    Ok(())
}

fn pid_mode(security: &ContainerSecurityContext) -> PidMode {
    let options = &security.namespace_options;
    match options.pid {
        NamespaceMode::Pod => PidMode::Pod,
        NamespaceMode::Container => PidMode::Container,
        NamespaceMode::Node => PidMode::Node,
        NamespaceMode::Target => PidMode::Target(options.target_id.clone()),
    }
}

/// The default set, all additions and removals; `ALL` counts before single names.
fn capabilities(security: &ContainerSecurityContext, bounding: u64) -> Result<Vec<String>> {
    let all = |list: &[String]| list.iter().any(|c| c.eq_ignore_ascii_case("ALL"));
    let bits = |list: &[String]| {
        let single: Vec<String> = list.iter().filter(|c| !c.eq_ignore_ascii_case("ALL")).cloned().collect();
        sys::caps::set_of(&single).map_err(|name| Error::InvalidArgument(format!("unknown capability {name:?}")))
    };
    let wanted = &security.capabilities;
    let mut set = DEFAULT_CAPABILITIES.iter().filter_map(|c| sys::caps::bit(c)).fold(0, |set, bit| set | bit);
    if all(&wanted.add) || security.privileged {
        set = u64::MAX;
    }
    if all(&wanted.drop) && !security.privileged {
        set = 0;
    }
    set |= bits(&wanted.add)?;
    if !security.privileged {
        set &= !bits(&wanted.drop)?;
    }
    Ok(sys::caps::names(set & bounding))
}

fn sets(capabilities: &[String], security: &ContainerSecurityContext) -> Result<Capabilities> {
    let ambient = sys::caps::set_of(&security.capabilities.add_ambient)
        .map_err(|name| Error::InvalidArgument(format!("unknown capability {name:?}")))?;
    let ambient = sys::caps::names(ambient);
    Ok(Capabilities {
        bounding: capabilities.to_vec(),
        effective: capabilities.to_vec(),
        permitted: capabilities.to_vec(),
        inheritable: ambient.clone(),
        ambient,
    })
}

fn to_device(node: &sys::devices::DeviceNode, path: &str) -> Device {
    let kind = if node.kind == sys::devices::DeviceKind::Block { "b" } else { "c" };
    Device {
        path: path.to_owned(),
        kind: kind.to_owned(),
        major: node.major,
        minor: node.minor,
        file_mode: node.mode,
        uid: node.uid,
        gid: node.gid,
    }
}

/// All devices of the node, for privileged containers; the file systems below /dev are the container's own.
fn host_devices(dir: &Path, depth: u32, devices: &mut Vec<(Device, String)>) {
    const OWN: [&str; 5] = ["pts", "shm", "fd", "mqueue", "console"];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        if kind.is_dir() && depth < 4 {
            host_devices(&path, depth + 1, devices);
        } else if !kind.is_dir()
            && !kind.is_symlink()
            && let Ok(node) = sys::devices::stat(&path)
        {
            devices.push((to_device(&node, &path.display().to_string()), "rwm".to_owned()));
        }
    }
}

fn device_rules(
    security: &ContainerSecurityContext,
    devices: &[(Device, String)],
    _config: &ContainerConfig,
) -> Option<Vec<String>> {
    if security.privileged {
        return None;
    }
    let own = devices.iter().map(|(d, access)| format!("{} {}:{} {access}", d.kind, d.major, d.minor));
    Some(DEFAULT_DEVICES.iter().map(|d| (*d).to_owned()).chain(own).collect())
}

/// CRI's limits, where 0 means "not given".
pub(super) fn resources(limits: &LinuxResources) -> Resources {
    let given = |value: i64| (value != 0).then_some(value);
    Resources {
        cpu_shares: given(limits.cpu_shares).and_then(|v| u64::try_from(v).ok()),
        cpu_quota: given(limits.cpu_quota),
        cpu_period: given(limits.cpu_period).and_then(|v| u64::try_from(v).ok()),
        memory_limit: given(limits.memory_limit_bytes),
        memory_swap_limit: given(limits.memory_swap_limit_bytes),
        pids_limit: given(limits.pids_limit),
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        hugepages: limits.hugepage_limits.clone(),
        unified: limits.unified.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        devices: None,
    }
}

fn first_of(candidates: &[&str]) -> String {
    candidates.iter().find(|c| !c.is_empty()).map(|c| (*c).to_owned()).unwrap_or_default()
}
