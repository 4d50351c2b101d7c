//! Which slices a Service needs; pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{ObjectReference, Pod, Service};
use api::k8s::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use api::metav1::ObjectMeta;

use super::{MANAGED_BY, MANAGER, SERVICE_NAME};
use crate::network::backends;
use crate::owner::controller_reference;
use crate::pods;

/// Most endpoints in a slice.
const MAX_ENDPOINTS: usize = 100;
const HEADLESS: &str = "service.kubernetes.io/headless";

/// What to write.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

type Zone<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The address families that the Service has.
fn address_types(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.clone().unwrap_or_default();
    let families: Vec<&'static str> = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some("IPv4"),
            "IPv6" => Some("IPv6"),
            _ => None,
        })
        .collect();
    if !families.is_empty() {
        return families;
    }
    match spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()) {
        Some(IpAddr::V6(_)) => vec!["IPv6"],
        _ => vec!["IPv4"],
    }
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    if ports.is_empty() && backends::is_headless(service) {
        // Upstream keeps a nameless port, so that DNS has something to publish.
        return Vec::new();
    }
    ports
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(backends::target_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn addresses(pod: &Pod, address_type: &str) -> Vec<String> {
    let fits = |ip: &String| ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == (address_type == "IPv6"));
    backends::ips(pod).into_iter().filter(fits).collect()
}

fn endpoint(service: &Service, pod: &Pod, address_type: &str, zone: Zone<'_>) -> Endpoint {
    let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty());
    let (serving, terminating) = (pods::is_ready(pod), pod.is_deleting());
    let ready = backends::publishes_not_ready(service) || (serving && !terminating);
    Endpoint {
        addresses: addresses(pod, address_type),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: backends::hostname(pod, service),
        zone: node.as_deref().and_then(zone),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace().to_owned()),
            name: Some(pod.name().to_owned()),
            uid: Some(pod.uid().to_owned()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

/// Hints for `trafficDistribution`; none unless every ready endpoint can have one.
fn add_hints(service: &Service, endpoints: &mut [Endpoint]) {
    let wish = service.spec.as_ref().and_then(|s| s.traffic_distribution.as_deref());
    let by_node = match wish {
        Some("PreferSameZone" | "PreferClose") => false,
        Some("PreferSameNode") => true,
        _ => return,
    };
    for endpoint in endpoints {
        let zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
        let nodes = endpoint.node_name.clone().filter(|_| by_node).map(|name| vec![ForNode { name }]);
        if zones.is_some() || nodes.is_some() {
            endpoint.hints = Some(EndpointHints { for_zones: zones, for_nodes: nodes });
        }
    }
}

fn new_slice(service: &Service, address_type: &str, ports: &[EndpointPort]) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name())),
            namespace: Some(service.namespace().to_owned()),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_owned(),
        ports: Some(ports.to_vec()),
        endpoints: Some(Vec::new()),
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.retain(|key, _| key != HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), service.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// Endpoints are the same endpoint when they stand for the same pod.
fn identity(endpoint: &Endpoint) -> String {
    match &endpoint.target_ref {
        Some(target) => target.uid.clone().unwrap_or_default(),
        None => endpoint.addresses.join(","),
    }
}

fn port_key(ports: Option<&[EndpointPort]>) -> Vec<String> {
    let mut keys: Vec<String> = ports
        .unwrap_or_default()
        .iter()
        .map(|p| format!("{:?}/{:?}/{:?}/{:?}", p.name, p.port, p.protocol, p.app_protocol))
        .collect();
    keys.sort();
    keys
}

/// Compares what is there with what is wanted and changes as few slices as may be.
pub(super) fn plan(
    service: &Service,
    selected: &[Arc<Pod>],
    existing: Vec<Arc<EndpointSlice>>,
    zone: Zone<'_>,
) -> Plan {
    let mut plan = Plan::default();
    let types = address_types(service);
    let (mut current, foreign): (Vec<_>, Vec<_>) =
        existing.into_iter().partition(|s| types.contains(&s.address_type.as_str()));
    plan.delete.extend(foreign);
    for address_type in types {
        let of_type: Vec<Arc<EndpointSlice>> = current.extract_if(.., |s| s.address_type == address_type).collect();
        plan_family(service, selected, of_type, address_type, zone, &mut plan);
    }
    plan
}

fn plan_family(
    service: &Service,
    selected: &[Arc<Pod>],
    mut existing: Vec<Arc<EndpointSlice>>,
    address_type: &str,
    zone: Zone<'_>,
    plan: &mut Plan,
) {
    let mut wanted: BTreeMap<Vec<String>, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for pod in selected.iter().filter(|p| backends::belongs(p, true)) {
        let endpoint = endpoint(service, pod, address_type, zone);
        if endpoint.addresses.is_empty() {
            continue;
        }
        let ports = ports(service, pod);
        let group = wanted.entry(port_key(Some(&ports))).or_insert_with(|| (ports, Vec::new()));
        group.1.push(endpoint);
    }
    let before = plan.create.len() + plan.update.len();
    let mut kept = 0;
    for (key, (ports, mut endpoints)) in wanted {
        add_hints(service, &mut endpoints);
        let of_ports: Vec<Arc<EndpointSlice>> =
            existing.extract_if(.., |s| port_key(s.ports.as_deref()) == key).collect();
        kept += plan_ports(service, of_ports, address_type, &ports, endpoints, plan);
    }
    let none_left = kept == 0 && plan.create.len() + plan.update.len() == before;
    if none_left {
        // A Service without endpoints has one empty slice, so that clients see that somebody looked.
        let placeholder = new_slice(service, address_type, &[]);
        match existing.pop() {
            None => plan.create.push(placeholder),
            Some(slice) => {
                let empty = slice.endpoints.as_ref().is_none_or(Vec::is_empty);
                let right =
                    empty && slice.labels() == &labels(service) && slice.ports.as_ref().is_none_or(Vec::is_empty);
                if !right {
                    let metadata = ObjectMeta { labels: Some(labels(service)), ..slice.metadata.clone() };
                    plan.update.push(EndpointSlice { metadata, ..placeholder });
                }
            }
        }
    }
    plan.delete.extend(existing);
}

/// Fits endpoints of equal ports into the slices there are; gives how many stay as they are.
fn plan_ports(
    service: &Service,
    existing: Vec<Arc<EndpointSlice>>,
    address_type: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    plan: &mut Plan,
) -> usize {
    let mut missing: BTreeMap<String, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
    let labels = labels(service);
    let mut slices: Vec<(Arc<EndpointSlice>, Vec<Endpoint>, bool)> = Vec::new();
    for slice in existing {
        let old = slice.endpoints.clone().unwrap_or_default();
        let new: Vec<Endpoint> = old.iter().filter_map(|e| missing.remove(&identity(e))).collect();
        let changed = new != old || slice.labels() != &labels;
        slices.push((slice, new, changed));
    }
    let mut rest: Vec<Endpoint> = missing.into_values().collect();
    // Slices that are written anyhow take the new ones first, the fullest before the others.
    slices.sort_by_key(|(_, new, changed)| (!changed, std::cmp::Reverse(new.len())));
    for (_, new, changed) in &mut slices {
        let room = MAX_ENDPOINTS.saturating_sub(new.len()).min(rest.len());
        if room > 0 {
            new.extend(rest.drain(..room));
            *changed = true;
        }
    }
    while !rest.is_empty() {
        let count = rest.len().min(MAX_ENDPOINTS);
        let mut slice = new_slice(service, address_type, ports);
        slice.endpoints = Some(rest.drain(..count).collect());
        plan.create.push(slice);
    }
    let mut kept = 0;
    for (slice, new, changed) in slices {
        if new.is_empty() {
            plan.delete.push(slice);
        } else if changed {
            let metadata = ObjectMeta { labels: Some(labels.clone()), ..slice.metadata.clone() };
            plan.update.push(EndpointSlice { metadata, endpoints: Some(new), ..(*slice).clone() });
        } else {
            kept += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests;
