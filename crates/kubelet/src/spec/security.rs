//! Security contexts: the pod's and the container's, merged into what the runtime is asked for.

use std::path::Path;

use node_api::{
    Capabilities, ContainerSecurityContext, NamespaceMode, NamespaceOption, SecurityProfile, SupplementalGroupsPolicy,
};

use crate::k8s::core::{PodSecurityContext, SeccompProfile, SecurityContext};
use crate::k8s::{Container, Pod, PodExt};
use crate::spec::ConfigError;

const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Who the image says it runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// A number.
    pub uid: Option<i64>,
    /// Or a name.
    pub name: String,
}

/// Namespaces of a pod.
#[must_use]
pub fn namespaces(pod: &Pod) -> NamespaceOption {
    let spec = pod.spec();
    let node = |flag: Option<bool>| if flag == Some(true) { NamespaceMode::Node } else { NamespaceMode::Pod };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => NamespaceMode::Node,
        (_, Some(true)) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    NamespaceOption { network: node(spec.host_network), pid, ipc: node(spec.host_ipc), ..NamespaceOption::default() }
}

/// Groups of a pod's processes besides the main one: supplemental groups, and the volumes' group.
#[must_use]
pub fn groups(pod: &Pod) -> (Vec<i64>, SupplementalGroupsPolicy) {
    let Some(context) = pod.spec().security_context.as_ref() else { return Default::default() };
    let groups = context.supplemental_groups.iter().flatten().copied().chain(context.fs_group).collect();
    let policy = match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict,
        _ => SupplementalGroupsPolicy::Merge,
    };
    (groups, policy)
}

/// A seccomp profile; without one, the node's default.
#[must_use]
pub fn seccomp(profile: Option<&SeccompProfile>, root: &Path, default: bool) -> SecurityProfile {
    match profile {
        Some(profile) => match profile.type_.as_str() {
            "RuntimeDefault" => SecurityProfile::RuntimeDefault,
            "Localhost" => {
                let name = profile.localhost_profile.as_deref().unwrap_or_default();
                SecurityProfile::Localhost(root.join(name).to_string_lossy().into_owned())
            }
            _ => SecurityProfile::Unconfined,
        },
        None if default => SecurityProfile::RuntimeDefault,
        None => SecurityProfile::Unconfined,
    }
}

/// Settings of the node that matter here.
#[derive(Debug, Clone)]
pub struct NodeSecurity<'a> {
    /// Where Localhost seccomp profiles are.
    pub seccomp_root: &'a Path,
    /// Whether containers without a profile get the runtime's default.
    pub seccomp_default: bool,
}

/// The security of a container.
///
/// # Errors
/// `runAsNonRoot` is asked for and does not hold, or cannot be known.
pub fn container(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    node: &NodeSecurity<'_>,
) -> Result<ContainerSecurityContext, ConfigError> {
    let none_pod = PodSecurityContext::default();
    let none = SecurityContext::default();
    let of_pod = pod.spec().security_context.as_ref().unwrap_or(&none_pod);
    let own = container.security_context.as_ref().unwrap_or(&none);
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        check_non_root(pod, container, run_as_user, image)?;
    }
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let (supplemental_groups, supplemental_groups_policy) = groups(pod);
    let capabilities = own.capabilities.as_ref();
    let seccomp = if privileged {
        SecurityProfile::Unconfined
    } else {
        seccomp(
            own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()),
            node.seccomp_root,
            node.seccomp_default,
        )
    };
    let apparmor = own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref());
    Ok(ContainerSecurityContext {
        capabilities: Capabilities {
            add: capabilities.and_then(|c| c.add.clone()).unwrap_or_default(),
            drop: capabilities.and_then(|c| c.drop.clone()).unwrap_or_default(),
            add_ambient: Vec::new(),
        },
        privileged,
        namespace_options: namespaces(pod),
        run_as_user,
        run_as_username: String::new(),
        run_as_group: own.run_as_group.or(of_pod.run_as_group),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups,
        supplemental_groups_policy,
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(MASKED),
        readonly_paths: paths(READ_ONLY),
        seccomp,
        apparmor: match apparmor.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
            Some(("Localhost", Some(name))) => SecurityProfile::Localhost(name.to_owned()),
            // The runtime's default is no confinement where the kernel has no AppArmor.
            _ => SecurityProfile::Unconfined,
        },
        selinux_label: String::new(),
    })
}

fn check_non_root(pod: &Pod, container: &Container, user: Option<i64>, image: &ImageUser) -> Result<(), ConfigError> {
    let (pod, name) = (pod.display(), &container.name);
    match (user, image.uid) {
        (Some(0), _) => {
            Err(ConfigError(format!("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {name})")))
        }
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(ConfigError(format!(
            "container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {name})"
        ))),
        (None, Some(_)) => Ok(()),
        (None, None) if image.name.is_empty() => Err(ConfigError(format!(
            "container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {name})"
        ))),
        (None, None) => Err(ConfigError(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root (pod: {pod:?}, container: {name})",
            image.name
        ))),
    }
}
