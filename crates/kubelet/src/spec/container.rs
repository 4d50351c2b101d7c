//! The configuration of one container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use node_api::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, MountPropagation,
    NamespaceMode,
};
use volumes::Mounted;

use crate::k8s::core::VolumeMount;
use crate::k8s::{Container, Kind, Pod, PodExt};
use crate::pod::labels;
use crate::spec::security::{self, ImageUser, NodeSecurity};
use crate::spec::{ConfigError, expand, resources};

/// Everything a container's configuration is made of.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Restarts before this one.
    pub restart_count: u32,
    /// The image's id.
    pub image_id: &'a str,
    /// The image's user.
    pub image_user: &'a ImageUser,
    /// Its environment.
    pub env: &'a BTreeMap<String, String>,
    /// Its mounts, in order.
    pub mounts: Vec<Mount>,
    /// The node's security settings.
    pub security: NodeSecurity<'a>,
    /// The node's memory, bytes.
    pub memory_capacity: i64,
    /// The container whose processes an ephemeral container joins.
    pub target_id: Option<String>,
}

/// The log of a container, relative to the pod's folder.
#[must_use]
pub fn log_path(container: &str, restart_count: u32) -> String {
    format!("{container}/{restart_count}.log")
}

/// Makes the configuration.
///
/// # Errors
/// The security context cannot be satisfied.
pub fn config(inputs: Inputs<'_>) -> Result<ContainerConfig, ConfigError> {
    let (pod, container) = (inputs.pod, inputs.container);
    let lookup = |name: &str| inputs.env.get(name).cloned();
    let words =
        |list: Option<&Vec<String>>| list.into_iter().flatten().map(|w| expand::expand(w, lookup)).collect::<Vec<_>>();
    let mut security_context = security::container(pod, container, inputs.image_user, &inputs.security)?;
    if let Some(target) = inputs.target_id {
        security_context.namespace_options.pid = NamespaceMode::Target;
        security_context.namespace_options.target_id = target;
    }
    Ok(ContainerConfig {
        metadata: ContainerMetadata { name: container.name.clone(), attempt: inputs.restart_count },
        image: ImageSpec {
            image: inputs.image_id.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..ImageSpec::default()
        },
        command: words(container.command.as_ref()),
        args: words(container.args.as_ref()),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs.env.iter().map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() }).collect(),
        mounts: inputs.mounts,
        labels: labels::container(pod, container),
        annotations: labels::annotations(pod, container, inputs.restart_count),
        log_path: log_path(&container.name, inputs.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: LinuxContainerConfig {
            resources: resources::container(pod, container, inputs.memory_capacity),
            security_context,
        },
        ..ContainerConfig::default()
    })
}

/// Binds part of a volume: volume, its path, part, index of the mount → path to mount.
pub type SubPath<'a> = &'a dyn Fn(&str, &Path, &str, usize) -> Result<PathBuf, ConfigError>;

/// The mounts of a container's volumes.
///
/// # Errors
/// A volume or a part of it is not there.
pub fn volume_mounts(
    container: &Container,
    env: &BTreeMap<String, String>,
    mounted: &BTreeMap<String, Mounted>,
    images: &BTreeMap<String, ImageSpec>,
    sub_path: SubPath<'_>,
) -> Result<Vec<Mount>, ConfigError> {
    let mut out = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = mounted.get(&mount.name).ok_or_else(|| {
            ConfigError(format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name))
        })?;
        let part = part(mount, env)?;
        let read_only = mount.read_only.unwrap_or(false) || volume.read_only;
        let mut one = Mount {
            container_path: absolute(&mount.mount_path),
            readonly: read_only,
            recursive_read_only: read_only
                && matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
            propagation: match mount.mount_propagation.as_deref() {
                Some("Bidirectional") => MountPropagation::Bidirectional,
                Some("HostToContainer") => MountPropagation::HostToContainer,
                _ => MountPropagation::Private,
            },
            ..Mount::default()
        };
        if volume.image.is_some() {
            one.image = images.get(&mount.name).cloned();
            one.image_sub_path = part;
        } else if part.is_empty() {
            one.host_path = volume.path.to_string_lossy().into_owned();
        } else {
            one.host_path = sub_path(&mount.name, &volume.path, &part, index)?.to_string_lossy().into_owned();
        }
        out.push(one);
    }
    Ok(out)
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn part(mount: &VolumeMount, env: &BTreeMap<String, String>) -> Result<String, ConfigError> {
    let part = match mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        Some(expression) => expand::expand_strict(expression, |name| env.get(name).cloned())
            .map_err(|name| ConfigError(format!("missing value for {name:?}")))?,
        None => mount.sub_path.clone().unwrap_or_default(),
    };
    if part.starts_with('/') {
        return Err(ConfigError(format!("error SubPath `{part}` must not be an absolute path")));
    }
    if part.split('/').any(|p| p == "..") {
        return Err(ConfigError(format!("unable to provision SubPath `{part}`: must not contain '..'")));
    }
    Ok(part)
}

/// Whether a container mounts something of its own at a path.
#[must_use]
pub fn mounts_at(container: &Container, path: &str) -> bool {
    container.volume_mounts.iter().flatten().any(|m| absolute(&m.mount_path).trim_end_matches('/') == path)
}

/// The container whose PID namespace an ephemeral container asks for.
#[must_use]
pub fn target_of(pod: &Pod, name: &str) -> Option<String> {
    let list = pod.spec().ephemeral_containers.iter().flatten();
    list.filter(|e| e.name == name).find_map(|e| e.target_container_name.clone()).filter(|n| !n.is_empty())
}

/// A container to be named in messages: `name_namespace(uid)`.
#[must_use]
pub fn reference(pod: &Pod, container: &str) -> String {
    format!("{} in pod {}_{}({})", container, pod.name(), pod.namespace(), pod.uid())
}
