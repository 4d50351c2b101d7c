//! A pod's resolv.conf, by its DNS policy.

use node_api::DnsConfig;

use crate::k8s::{Kind, Pod, PodExt};

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// What the node contributes.
#[derive(Debug, Clone, Default)]
pub struct NodeDns {
    /// `--cluster-dns`.
    pub cluster_dns: Vec<String>,
    /// `--cluster-domain`.
    pub cluster_domain: String,
    /// The node's own resolv.conf, parsed.
    pub host: DnsConfig,
}

/// A pod's DNS and what has to be said about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodDns {
    /// The content.
    pub config: DnsConfig,
    /// Events: reason and text.
    pub warnings: Vec<(&'static str, String)>,
}

/// Parses a resolv.conf.
#[must_use]
pub fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                config.searches = words.map(|w| if w == "." { w } else { w.trim_end_matches('.') }.to_owned()).collect()
            }
            Some("options") => config.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    config
}

/// Makes a pod's DNS configuration.
#[must_use]
pub fn pod(pod: &Pod, node: &NodeDns) -> PodDns {
    let spec = pod.spec();
    let mut out = PodDns::default();
    let cluster = match spec.dns_policy.as_deref() {
        Some("None") => None,
        Some("Default") => Some(false),
        Some("ClusterFirstWithHostNet") => Some(true),
        _ => Some(!pod.host_network()),
    };
    match cluster {
        None => {}
        Some(true) if !node.cluster_dns.is_empty() => {
            out.config = DnsConfig {
                servers: node.cluster_dns.clone(),
                searches: cluster_searches(pod.namespace(), node),
                options: vec!["ndots:5".to_owned()],
            };
        }
        Some(wanted) => {
            if wanted {
                let text = format!(
                    "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create Pod using {:?} policy. Falling back to {:?} policy.",
                    pod.display(),
                    spec.dns_policy.as_deref().unwrap_or("ClusterFirst"),
                    "Default"
                );
                out.warnings.push(("MissingClusterDNS", text));
            }
            out.config = node.host.clone();
        }
    }
    if let Some(own) = &spec.dns_config {
        append(&mut out.config.servers, own.nameservers.iter().flatten());
        append(&mut out.config.searches, own.searches.iter().flatten());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            out.config.options.retain(|o| o.split(':').next() != Some(name.as_str()));
            out.config.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    limit(&mut out);
    out
}

fn cluster_searches(namespace: &str, node: &NodeDns) -> Vec<String> {
    let domain = &node.cluster_domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    }
    append(&mut searches, node.host.searches.iter());
    searches
}

fn append<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn limit(out: &mut PodDns) {
    if out.config.servers.len() > MAX_SERVERS {
        out.config.servers.truncate(MAX_SERVERS);
        let line = out.config.servers.join(" ");
        let text = format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}"
        );
        out.warnings.push(("DNSConfigForming", text));
    }
    let before = out.config.searches.len();
    out.config.searches.truncate(MAX_SEARCHES);
    while out.config.searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        out.config.searches.pop();
    }
    if out.config.searches.len() < before {
        let line = out.config.searches.join(" ");
        let text = format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}"
        );
        out.warnings.push(("DNSConfigForming", text));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies() {
        let node = NodeDns {
            cluster_dns: vec!["10.96.0.10".to_owned()],
            cluster_domain: "cluster.local".to_owned(),
            host: parse("nameserver 8.8.8.8\nsearch example.com.\noptions edns0\n"),
        };
        let show = |spec: serde_json::Value| {
            let mut full = json!({"containers": []});
            full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            let it: Pod = serde_json::from_value(json!({"metadata": {"namespace": "n"}, "spec": full})).unwrap();
            let dns = pod(&it, &node);
            format!(
                "{}|{}|{}",
                dns.config.servers.join(" "),
                dns.config.searches.join(" "),
                dns.config.options.join(" ")
            )
        };
        let first = "10.96.0.10|n.svc.cluster.local svc.cluster.local cluster.local example.com|ndots:5";
        assert_eq!(show(json!({"dnsPolicy": "ClusterFirst"})), first);
        assert_eq!(show(json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true})), "8.8.8.8|example.com|edns0");
        assert_eq!(show(json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true})), first);
        let own = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "x"}]}});
        assert_eq!(show(own), "1.1.1.1|a.b|ndots:2 x");
        let merged = json!({"dnsPolicy": "ClusterFirst", "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}});
        assert!(show(merged).ends_with("|ndots:1"));
    }
}
