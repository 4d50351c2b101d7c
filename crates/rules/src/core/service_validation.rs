//! Validation of services.
//!
//! It runs before addresses and ports are allocated, so that what the allocator will fill in may be absent.

use std::net::IpAddr;

use meta::names;
use serde_json::Value;

use super::service_prepare::family;
use crate::{C, meta_v1};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
/// The most seconds that client affinity may last.
const AFFINITY_MAX: i64 = 86_400;

/// A new service, or the new form of one.
pub fn create(service: &C) {
    let spec = service.get("spec");
    if spec.get("ports").is_empty() && !is_headless(&spec) && spec.get("type").str() != "ExternalName" {
        spec.get("ports").missing("");
    }
    by_type(&spec);
    ports(&spec);
    meta_v1::labels(&spec.get("selector"));
    affinity(&spec);
    for ip in spec.get("externalIPs").items() {
        if ip.check(names::ip) {
            usable_external_ip(&ip);
        }
    }
    spec.get("type").required_one_of(&TYPES);
    unique_ports(&spec);
    source_ranges(&spec);
    if spec.get("type").str() != "ExternalName" {
        cluster_ips(&spec);
    }
    traffic(&spec);
    let distribution = spec.get("trafficDistribution");
    if distribution.exists() {
        distribution.one_of(&["PreferClose", "PreferSameZone", "PreferSameNode"]);
    }
    balancer_class(&spec);
    status_ingress(service);
}

fn is_headless(spec: &C) -> bool {
    spec.get("clusterIPs").array().first().is_some_and(|ip| ip == "None") || spec.get("clusterIP").str() == "None"
}

fn by_type(spec: &C) {
    match spec.get("type").str() {
        "LoadBalancer" => {
            for port in spec.get("ports").items() {
                // The kubelet's port cannot be exposed by a load balancer, which would shadow it on every node.
                if port.get("port").int() == 10_250 {
                    let word = "may not expose port 10250 externally since it is used by kubelet";
                    port.get("port").invalid(word);
                }
            }
            if is_headless(spec) {
                spec.get("clusterIPs").index(0).invalid("may not be set to 'None' for LoadBalancer services");
            }
        }
        "NodePort" if is_headless(spec) => {
            spec.get("clusterIPs").index(0).invalid("may not be set to 'None' for NodePort services");
        }
        "ExternalName" => {
            for (field, what) in
                [("clusterIPs", "clusterIPs"), ("ipFamilies", "ipFamilies"), ("ipFamilyPolicy", "ipFamilyPolicy")]
            {
                if !spec.get(field).is_empty() {
                    spec.get(what).forbidden("may not be set for ExternalName services");
                }
            }
            let name = spec.get("externalName");
            let text = name.str().strip_suffix('.').unwrap_or(name.str());
            if text.is_empty() {
                name.missing("");
            } else {
                for finding in names::dns1123_subdomain(text) {
                    name.invalid_value(text, finding);
                }
            }
        }
        _ => {}
    }
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if spec.get("type").str() == "LoadBalancer" {
        if !allocate.exists() {
            allocate.missing("");
        }
    } else if allocate.exists() {
        allocate.forbidden("may only be used when `type` is 'LoadBalancer'");
    }
}

fn ports(spec: &C) {
    let list = spec.get("ports");
    let several = list.len() > 1;
    let mut seen: Vec<&str> = Vec::new();
    for port in list.items() {
        let name = port.get("name");
        if !name.is_zero() {
            name.check(names::dns1123_label);
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            seen.push(name.str());
        } else if several {
            name.missing("");
        }
        for finding in names::port_num(port.get("port").int()) {
            port.get("port").invalid_value(port.get("port").int(), finding);
        }
        port.get("protocol").required_one_of(&PROTOCOLS);
        target_port(&port.get("targetPort"));
        let application = port.get("appProtocol");
        if application.exists() {
            application.check(names::qualified_name);
        }
        let node = port.get("nodePort");
        if node.int() != 0 {
            match spec.get("type").str() {
                "ClusterIP" | "ExternalName" => node.forbidden("may not be used when `type` is 'ClusterIP'"),
                _ => node.invalid_all(names::port_num(node.int())),
            }
        }
    }
}

fn target_port(port: &C) {
    match port.value() {
        Some(Value::String(name)) => port.invalid_all(names::port_name(name)),
        _ => port.invalid_all(names::port_num(port.int())),
    }
}

/// Port and protocol pairs, and node ports, are unique.
fn unique_ports(spec: &C) {
    let (mut pairs, mut nodes) = (Vec::new(), Vec::new());
    for port in spec.get("ports").items() {
        let protocol = port.get("protocol").str();
        let pair = (port.get("port").int(), protocol);
        if pairs.contains(&pair) {
            let value = serde_json::json!({"protocol": protocol, "port": pair.0, "targetPort": 0});
            port.sink().push(meta::field::Error::duplicate(&port.path(), value));
        }
        pairs.push(pair);
        let node = port.get("nodePort");
        let key = (node.int(), protocol);
        if key.0 != 0 && nodes.contains(&key) {
            node.duplicate();
        }
        nodes.push(key);
    }
}

fn affinity(spec: &C) {
    let affinity = spec.get("sessionAffinity");
    affinity.required_one_of(&["ClientIP", "None"]);
    let config = spec.get("sessionAffinityConfig");
    match affinity.str() {
        "ClientIP" => {
            let timeout = config.get("clientIP.timeoutSeconds");
            if !timeout.exists() {
                config.missing("when session affinity type is ClientIP");
            } else if !(1..=AFFINITY_MAX).contains(&timeout.int()) {
                timeout.invalid(format!("must be greater than 0 and less than {AFFINITY_MAX}"));
            }
        }
        "None" if config.exists() => {
            config.forbidden("must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// Addresses that mean a place of their own are no external addresses.
fn usable_external_ip(ip: &C) {
    let Ok(parsed) = ip.str().parse::<IpAddr>() else { return };
    let link_local = match parsed {
        IpAddr::V4(v4) => v4.is_link_local() || v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80 || v6.segments()[0] == 0xff02,
    };
    if parsed.is_unspecified() {
        ip.invalid("may not be unspecified (0.0.0.0 or ::)");
    }
    if parsed.is_loopback() {
        ip.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        ip.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
}

fn source_ranges(spec: &C) {
    let ranges = spec.get("loadBalancerSourceRanges");
    if !ranges.is_empty() && spec.get("type").str() != "LoadBalancer" {
        ranges.forbidden("may only be used when `type` is 'LoadBalancer'");
    }
    for range in ranges.items() {
        if !is_cidr(range.str().trim()) {
            range.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        }
    }
}

/// Whether the text is an address with a prefix length.
pub fn is_cidr(text: &str) -> bool {
    let Some((base, prefix)) = text.split_once('/') else { return false };
    let Ok(base) = base.parse::<IpAddr>() else { return false };
    let width = if base.is_ipv4() { 32 } else { 128 };
    prefix.parse::<u8>().is_ok_and(|p| p <= width)
}

fn cluster_ips(spec: &C) {
    let (ip, ips) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    match (ip.is_zero(), ips.array().first()) {
        (false, None) => ips.missing(""),
        (false, Some(first)) if first != ip.str() => ips.invalid("first value must match `clusterIP`"),
        (true, Some(_)) => ips.invalid("must be empty when `clusterIP` is not specified"),
        _ => {}
    }
    let mut seen = Vec::new();
    for family in spec.get("ipFamilies").items() {
        family.one_of(&["IPv4", "IPv6"]);
        if seen.contains(&family.str()) {
            family.duplicate();
        }
        seen.push(family.str());
    }
    let policy = spec.get("ipFamilyPolicy");
    if policy.exists() {
        policy.one_of(&["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
    let before = ips.sink().len();
    for (i, ip) in ips.items().enumerate() {
        if i == 0 && ip.str() == "None" {
            if ips.len() > 1 {
                ips.invalid("'None' must be the first and only value");
            }
            continue;
        }
        ip.check(names::ip);
    }
    if ips.len() > 2 {
        ips.invalid("may only hold up to 2 values");
    }
    if ips.sink().len() > before || is_headless(spec) {
        return;
    }
    let families: Vec<&str> = ips.items().filter_map(|ip| family(ip.str())).collect();
    if families.len() > 1 && families[0] == families[1] {
        ips.invalid("may specify no more than one IP for each IP family");
    }
    for (i, (ip, wanted)) in ips.items().zip(&seen).enumerate() {
        if family(ip.str()).is_some_and(|f| f != *wanted) {
            ip.invalid(format!("expected an {wanted} value as indicated by `ipFamilies[{i}]`"));
        }
    }
}

fn traffic(spec: &C) {
    let external = spec.get("externalTrafficPolicy");
    let accessible = match spec.get("type").str() {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.get("externalIPs").is_empty(),
        _ => false,
    };
    if accessible {
        external.required_one_of(&["Cluster", "Local"]);
    } else if !external.is_zero() {
        external.invalid("may only be set for externally-accessible services");
    }
    let health = spec.get("healthCheckNodePort");
    let needs_health = spec.get("type").str() == "LoadBalancer" && external.str() == "Local";
    if health.int() != 0 {
        if needs_health {
            health.invalid_all(names::port_num(health.int()));
        } else {
            health.invalid("may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'");
        }
    }
    let internal = spec.get("internalTrafficPolicy");
    if internal.exists() {
        internal.one_of(&["Cluster", "Local"]);
    } else if matches!(spec.get("type").str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        internal.missing("");
    }
}

fn balancer_class(spec: &C) {
    let class = spec.get("loadBalancerClass");
    if !class.exists() {
        return;
    }
    if spec.get("type").str() == "LoadBalancer" {
        class.check(names::qualified_name);
    } else {
        class.forbidden("may only be used when `type` is 'LoadBalancer'");
    }
}

fn status_ingress(service: &C) {
    let ingress = service.get("status.loadBalancer.ingress");
    if service.get("spec.type").str() != "LoadBalancer" {
        if !ingress.is_empty() {
            ingress.forbidden("may only be used when `spec.type` is 'LoadBalancer'");
        }
        return;
    }
    for entry in ingress.items() {
        let (ip, mode, host) = (entry.get("ip"), entry.get("ipMode"), entry.get("hostname"));
        if !ip.is_zero() {
            ip.check(names::ip);
        }
        match (mode.exists(), ip.is_zero()) {
            (false, false) => mode.missing("must be specified when `ip` is set"),
            (true, true) => mode.forbidden("may not be specified when `ip` is not set"),
            (true, false) => {
                mode.one_of(&["Proxy", "VIP"]);
            }
            (false, true) => {}
        }
        if !host.is_zero() {
            host.check(names::dns1123_subdomain);
            if host.str().parse::<IpAddr>().is_ok() {
                host.invalid("must be a DNS name, not an IP address");
            }
        }
    }
}

/// What may not change.
pub fn update(new: &C, old: &C) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let external = |s: &C| s.get("type").str() == "ExternalName";
    let balancer = |s: &C| s.get("type").str() == "LoadBalancer";
    if balancer(&spec) && balancer(&before) && !spec.get("loadBalancerClass").same(&before.get("loadBalancerClass")) {
        spec.get("loadBalancerClass").invalid("may not change once set");
    }
    if external(&spec) || external(&before) {
        return;
    }
    let (headless, was_headless) = (is_headless(&spec), is_headless(&before));
    if !(headless && was_headless) {
        kept(&spec, &before, "clusterIPs", "primary clusterIP can not be unset", "secondary clusterIP");
    }
    if headless == was_headless && !headless && !spec.get("ipFamilies").is_empty() {
        kept(&spec, &before, "ipFamilies", "primary ipFamily can not be unset", "secondary ipFamily");
    }
}

/// The first of a list stays; a second may come, and go when the policy says so.
fn kept(spec: &C, before: &C, field: &str, unset: &str, secondary: &str) {
    let (now, then) = (spec.get(field), before.get(field));
    let at = |i: usize, word: &str| now.index(i).invalid_value(now.value_or_null(), word);
    if then.len() == now.len() {
        for (i, (a, b)) in now.items().zip(then.items()).enumerate() {
            if a.str() != b.str() {
                at(i, "may not change once set");
            }
        }
        return;
    }
    let first = |list: &C| list.array().first().cloned();
    if now.is_empty() {
        at(0, unset);
    } else if !then.is_empty() && first(&now) != first(&then) {
        at(0, "may not change once set");
    }
    let policy = spec.get("ipFamilyPolicy");
    if then.len() > now.len() && now.len() == 1 && policy.str() != "SingleStack" {
        policy.invalid(format!("must be set to 'SingleStack' when releasing the {secondary}"));
    }
}

/// An update of the status.
pub fn status(new: &C, _old: &C) {
    status_ingress(new);
}
