//! The sandbox of a pod.

use std::path::Path;

use node_api::{
    LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol, SandboxSecurityContext,
};

use crate::k8s::{Kind, Pod, PodExt};
use crate::pod::labels;
use crate::spec::{ConfigError, hosts, resources, security};

/// What the node contributes.
pub struct Node<'a> {
    /// The cluster's domain.
    pub cluster_domain: &'a str,
    /// The folder of all pods' logs.
    pub logs: &'a Path,
    /// The cgroup below which all pods are.
    pub cgroup_root: &'a str,
}

/// The folder of a pod's logs, as upstream names it.
#[must_use]
pub fn log_directory(logs: &Path, pod: &Pod) -> std::path::PathBuf {
    logs.join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
}

/// The link by which log collectors find a container's log, beside the folder of all pods' logs.
#[must_use]
pub fn log_link(logs: &Path, pod: &Pod, container: &str, id: &str) -> std::path::PathBuf {
    let name = format!("{}_{}_{container}", pod.name(), pod.namespace());
    // File names end at 255 bytes; the id must not be what is cut.
    let keep = name.len().min(251 - id.len().min(200));
    let name = name.get(..keep).unwrap_or(&name);
    logs.parent().unwrap_or(logs).join("containers").join(format!("{name}-{id}.log"))
}

/// Makes the configuration.
///
/// # Errors
/// The pod's name in full is too long.
pub fn config(
    pod: &Pod,
    attempt: u32,
    dns: node_api::DnsConfig,
    node: &Node<'_>,
) -> Result<PodSandboxConfig, ConfigError> {
    let context = pod.spec().security_context.as_ref();
    let (supplemental_groups, _) = security::groups(pod);
    let privileged = pod.all_containers().any(|c| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true));
    let sysctls = context.and_then(|c| c.sysctls.as_ref());
    Ok(PodSandboxConfig {
        metadata: PodSandboxMetadata {
            name: pod.name().to_owned(),
            uid: pod.uid().to_owned(),
            namespace: pod.namespace().to_owned(),
            attempt,
        },
        hostname: if pod.host_network() { String::new() } else { hosts::kernel_name(pod, node.cluster_domain)? },
        log_directory: log_directory(node.logs, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns),
        port_mappings: if pod.host_network() { Vec::new() } else { port_mappings(pod) },
        labels: labels::sandbox(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        linux: LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup_parent(node.cgroup_root, pod, pod.uid()),
            security_context: SandboxSecurityContext {
                namespace_options: security::namespaces(pod),
                privileged,
                run_as_user: context.and_then(|c| c.run_as_user),
                run_as_group: context.and_then(|c| c.run_as_group),
                supplemental_groups,
                seccomp: node_api::SecurityProfile::RuntimeDefault,
            },
            sysctls: sysctls.into_iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect(),
            overhead: None,
            resources: Some(resources::pod(pod)),
        },
    })
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    let ports = pod.all_containers().flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = u16::try_from(port.host_port?).ok().filter(|p| *p != 0)?;
            let protocol = match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            let container_port = u16::try_from(port.container_port).ok()?;
            Some(PortMapping { protocol, container_port, host_port, host_ip: port.host_ip.clone().unwrap_or_default() })
        })
        .collect()
}
