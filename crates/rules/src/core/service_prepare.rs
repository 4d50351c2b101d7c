//! What a service's fields become before validation, and which IP families it gets.

use std::net::IpAddr;

use meta::Object;
use meta::field::{Error, Path};
use serde_json::{Value, json};

/// Whether a service gets cluster IPs.
pub fn needs_cluster_ip(service: &Object) -> bool {
    matches!(service.get_str(&["spec", "type"]), "ClusterIP" | "NodePort" | "LoadBalancer" | "")
}

/// Whether a service gets node ports.
pub fn needs_node_port(service: &Object) -> bool {
    match service.get_str(&["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => service.get_bool(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false),
        _ => false,
    }
}

/// Whether a service gets a health check node port.
pub fn needs_health_check_port(service: &Object) -> bool {
    service.get_str(&["spec", "type"]) == "LoadBalancer"
        && service.get_str(&["spec", "externalTrafficPolicy"]) == "Local"
}

/// Whether the service is headless.
pub fn is_headless(service: &Object) -> bool {
    cluster_ips(service).first().is_some_and(|ip| ip == "None")
}

/// `spec.clusterIPs`.
pub fn cluster_ips(service: &Object) -> Vec<String> {
    strings(service, "clusterIPs")
}

/// A list of strings in the spec.
pub fn strings(service: &Object, field: &str) -> Vec<String> {
    let list = service.get(&["spec", field]).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Keeps `clusterIP` and `clusterIPs` in step when the client wrote only one of them.
pub fn normalize_cluster_ips(service: &mut Object, old: Option<&Object>) {
    let first = service.get_str(&["spec", "clusterIP"]).to_owned();
    let Some(old) = old else {
        if !first.is_empty() && cluster_ips(service).is_empty() {
            service.set(&["spec", "clusterIPs"], json!([first]));
        }
        return;
    };
    let before = old.get_str(&["spec", "clusterIP"]);
    let same_list = cluster_ips(service) == cluster_ips(old);
    if first == before {
        return;
    }
    match (before.is_empty(), first.is_empty()) {
        (false, true) if same_list => {
            service.remove(&["spec", "clusterIPs"]);
        }
        (false, false) if same_list => {
            let mut list = cluster_ips(service);
            if let Some(head) = list.first_mut() {
                *head = first;
            }
            service.set(&["spec", "clusterIPs"], json!(list));
        }
        (true, false) if cluster_ips(service).is_empty() => {
            service.set(&["spec", "clusterIPs"], json!([first]));
        }
        _ => {}
    }
}

/// A client that leaves out what was allocated keeps it.
pub fn patch_allocated_values(service: &mut Object, old: &Object) {
    if needs_cluster_ip(service) && needs_cluster_ip(old) {
        if service.get_str(&["spec", "clusterIP"]).is_empty() {
            copy(service, old, "clusterIP");
        }
        let same = service.get_str(&["spec", "clusterIP"]) == old.get_str(&["spec", "clusterIP"]);
        if same && cluster_ips(service).is_empty() {
            copy(service, old, "clusterIPs");
        }
    }
    if needs_node_port(service) && needs_node_port(old) {
        patch_node_ports(service, old);
    }
    if needs_health_check_port(service)
        && needs_health_check_port(old)
        && service.get_i64(&["spec", "healthCheckNodePort"]).unwrap_or(0) == 0
    {
        copy(service, old, "healthCheckNodePort");
    }
}

fn patch_node_ports(service: &mut Object, old: &Object) {
    let before = ports(old).to_vec();
    let mut used: Vec<i64> = ports(service).iter().map(node_port).collect();
    let list = service.spec_mut().get_mut("ports").and_then(Value::as_array_mut);
    for port in list.into_iter().flatten().filter(|p| node_port(p) == 0).collect::<Vec<_>>() {
        let same =
            before.iter().find(|b| b.get("port") == port.get("port") && b.get("protocol") == port.get("protocol"));
        let number = same.map_or(0, node_port);
        if number != 0 && !used.contains(&number) {
            port["nodePort"] = number.into();
            used.push(number);
        }
    }
}

/// When the type changes, fields that only the old type has are cleared, unless the client changed them.
pub fn drop_type_dependent_fields(service: &mut Object, old: &Object) {
    if needs_cluster_ip(old) && !needs_cluster_ip(service) {
        if same(service, old, "clusterIP") && same(service, old, "clusterIPs") {
            clear(service, &["clusterIP", "clusterIPs"]);
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(service, old, field) {
                clear(service, &[field]);
            }
        }
    }
    if needs_node_port(old) && !needs_node_port(service) {
        let numbers = |s: &Object| ports(s).iter().map(node_port).collect::<Vec<_>>();
        if numbers(service) == numbers(old) {
            let list = service.spec_mut().get_mut("ports").and_then(Value::as_array_mut);
            for port in list.into_iter().flatten().filter_map(Value::as_object_mut) {
                port.remove("nodePort");
            }
        }
    }
    if needs_health_check_port(old) && !needs_health_check_port(service) && same(service, old, "healthCheckNodePort") {
        clear(service, &["healthCheckNodePort"]);
    }
    let balancer = |s: &Object| s.get_str(&["spec", "type"]) == "LoadBalancer";
    if balancer(old) && !balancer(service) {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(service, old, field) {
                clear(service, &[field]);
            }
        }
    }
    if externally_accessible(old) && !externally_accessible(service) && same(service, old, "externalTrafficPolicy") {
        clear(service, &["externalTrafficPolicy"]);
    }
}

/// Whether the service can be reached from outside through the cluster's own means.
pub fn externally_accessible(service: &Object) -> bool {
    match service.get_str(&["spec", "type"]) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !strings(service, "externalIPs").is_empty(),
        _ => false,
    }
}

/// Fills in `ipFamilyPolicy` and `ipFamilies`; `cluster` are the families the cluster has, the default one first.
pub fn init_ip_families(service: &mut Object, old: Option<&Object>, cluster: &[&str]) -> Vec<Error> {
    if !needs_cluster_ip(service) {
        return Vec::new();
    }
    let spec = Path::new("spec");
    let ips = cluster_ips(service);
    let mut families = strings(service, "ipFamilies");
    let policy = service.get_str(&["spec", "ipFamilyPolicy"]).to_owned();
    let default = cluster.first().copied().unwrap_or("IPv4");
    let selectorless =
        service.get(&["spec", "selector"]).and_then(Value::as_object).is_none_or(serde_json::Map::is_empty);
    if is_headless(service) && selectorless {
        let policy = if policy.is_empty() { "RequireDualStack" } else { policy.as_str() };
        if families.is_empty() {
            families.push(default.to_owned());
        }
        if families.len() == 1 && policy != "SingleStack" {
            families.push(other(&families[0]).to_owned());
        }
        return store_families(service, policy, families);
    }
    for (i, ip) in ips.iter().enumerate() {
        if let Some(family) = family(ip)
            && families.len() <= i
        {
            families.push(family.to_owned());
        }
    }
    if let Some(unknown) = families.iter().position(|f| !cluster.contains(&f.as_str())) {
        let path = spec.child("ipFamilies").index(unknown);
        return vec![Error::invalid(&path, families[unknown].clone(), "not configured on this cluster")];
    }
    let several = families.len() > 1 || ips.len() > 1;
    if policy.is_empty() && several {
        let message =
            "must be 'RequireDualStack' or 'PreferDualStack' when multiple clusterIPs or ipFamilies are specified";
        // An update from two families that names no policy keeps the old one.
        if old.is_none() {
            return vec![Error::invalid(&spec.child("ipFamilyPolicy"), Value::Null, message)];
        }
    }
    let policy = if policy.is_empty() { "SingleStack" } else { policy.as_str() };
    if policy == "RequireDualStack" && cluster.len() < 2 {
        let message = "this cluster is not configured for dual-stack services";
        return vec![Error::invalid(&spec.child("ipFamilyPolicy"), policy, message)];
    }
    if families.is_empty() {
        families.push(default.to_owned());
    }
    if policy == "SingleStack" {
        families.truncate(1);
    } else if families.len() == 1 && cluster.len() > 1 {
        families.push(other(&families[0]).to_owned());
    }
    store_families(service, policy, families)
}

fn store_families(service: &mut Object, policy: &str, families: Vec<String>) -> Vec<Error> {
    service.set(&["spec", "ipFamilyPolicy"], policy.into());
    service.set(&["spec", "ipFamilies"], families.into());
    Vec::new()
}

/// `IPv4` or `IPv6` of an address.
pub fn family(ip: &str) -> Option<&'static str> {
    match ip.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => Some("IPv4"),
        Ok(IpAddr::V6(_)) => Some("IPv6"),
        Err(_) => None,
    }
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

/// `spec.ports`.
pub fn ports(service: &Object) -> &[Value] {
    service.get(&["spec", "ports"]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The node port of a port, 0 when none.
pub fn node_port(port: &Value) -> i64 {
    port.get("nodePort").and_then(Value::as_i64).unwrap_or(0)
}

fn same(service: &Object, old: &Object, field: &str) -> bool {
    crate::same_value(service.get(&["spec", field]), old.get(&["spec", field]))
}

fn clear(service: &mut Object, fields: &[&str]) {
    for field in fields {
        service.remove(&["spec", field]);
    }
}

fn copy(service: &mut Object, old: &Object, field: &str) {
    if let Some(value) = old.get(&["spec", field]).cloned() {
        service.set(&["spec", field], value);
    }
}
