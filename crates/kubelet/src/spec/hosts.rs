//! A pod's host name and its /etc/hosts.

use std::fmt::Write;

use crate::k8s::{Kind, Pod, PodExt};
use crate::spec::ConfigError;

const MAX_HOSTNAME: usize = 63;
const MAX_FQDN: usize = 64;

/// Host name and domain (empty for none).
#[must_use]
pub fn names(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = pod.spec();
    if let Some(name) = &spec.hostname_override {
        return (truncated(name), String::new());
    }
    let name = spec.hostname.as_deref().filter(|n| !n.is_empty()).unwrap_or_else(|| pod.name());
    let domain = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(sub) => format!("{sub}.{}.svc.{cluster_domain}", pod.namespace()),
        None => String::new(),
    };
    (truncated(name), domain)
}

fn truncated(name: &str) -> String {
    match name.char_indices().nth(MAX_HOSTNAME) {
        Some((end, _)) => name[..end].trim_end_matches(['-', '.']).to_owned(),
        None => name.to_owned(),
    }
}

/// What the kernel is told (`setHostnameAsFQDN`).
///
/// # Errors
/// A full name longer than the kernel takes.
pub fn kernel_name(pod: &Pod, cluster_domain: &str) -> Result<String, ConfigError> {
    let (name, domain) = names(pod, cluster_domain);
    if domain.is_empty() || pod.spec().set_hostname_as_fqdn != Some(true) || pod.spec().hostname_override.is_some() {
        return Ok(name);
    }
    let full = format!("{name}.{domain}");
    if full.len() > MAX_FQDN {
        return Err(ConfigError(format!(
            "failed to construct FQDN from Pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        )));
    }
    Ok(full)
}

/// The content of /etc/hosts; `node` is the node's own file, for pods on its network.
#[must_use]
pub fn file(pod: &Pod, ips: &[String], cluster_domain: &str, node: &str) -> String {
    let mut out = String::new();
    if pod.host_network() {
        out.push_str("# Kubernetes-managed hosts file (host network).\n");
        out.push_str(node);
    } else {
        out.push_str(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let (name, domain) = names(pod, cluster_domain);
        for ip in ips {
            let _ = if domain.is_empty() {
                writeln!(out, "{ip}\t{name}")
            } else {
                writeln!(out, "{ip}\t{name}.{domain}\t{name}")
            };
        }
    }
    let aliases = pod.spec().host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let _ = writeln!(
                out,
                "{}\t{}",
                alias.ip,
                alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")
            );
        }
    }
    out
}
