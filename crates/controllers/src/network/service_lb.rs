//! Load balancers on the nodes' own addresses, as k3s's ServiceLB: a Service of type LoadBalancer gets the addresses of
//! nodes as its ingress, and the service proxy answers there on the Service's ports.
//!
//! A port of a node is one Service's: the older one keeps it, the other waits with an event. Services of another
//! `loadBalancerClass` are left to whoever serves that class.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{LoadBalancerIngress, Node, Service};
use api::k8s::discovery::v1::EndpointSlice;
use client::{Error, PatchKind};
use informer::{Delta, EventType, Informer, Queue, run_workers};
use serde_json::json;

use crate::frame::Context;

/// The class by which a Service asks for this implementation; without any it gets it as well.
const CLASS: &str = "corten.local/node-ip";
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const BY_SERVICE: &str = "service";
/// Ports on which nodes themselves answer: kubelet and service proxy.
const OF_NODES: [(i32, &str); 3] = [(10_250, "TCP"), (10_256, "TCP"), (10_249, "TCP")];

/// Whether the Service is ours.
fn ours(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() == Some("LoadBalancer")
        && !service.is_deleting()
        && spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS)
}

/// The ports a Service wants on the nodes.
fn ports(service: &Service) -> BTreeSet<(i32, String)> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports.map(|p| (p.port, p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()))).collect()
}

fn node_ports(service: &Service) -> impl Iterator<Item = (i32, String)> + '_ {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports.filter_map(|p| Some((p.node_port?, p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()))))
}

/// Who comes first when two want the same port.
fn age(service: &Service) -> (Option<rt::time::Timestamp>, String) {
    (service.metadata.creation_timestamp.as_ref().map(|t| t.0), service.key())
}

/// Why a Service cannot have its ports.
fn conflict(service: &Service, all: &[Arc<Service>]) -> Option<String> {
    let wanted = ports(service);
    if let Some((port, protocol)) = wanted.iter().find(|(port, proto)| OF_NODES.contains(&(*port, proto.as_str()))) {
        return Some(format!("port {port}/{protocol} is used by the nodes themselves"));
    }
    for other in all.iter().filter(|other| other.uid() != service.uid()) {
        if ours(other)
            && age(other) < age(service)
            && let Some((port, protocol)) = wanted.intersection(&ports(other)).next()
        {
            return Some(format!("port {port}/{protocol} is taken by Service {}", other.key()));
        }
        if let Some((port, protocol)) = node_ports(other).find(|port| wanted.contains(port)) {
            return Some(format!("port {port}/{protocol} is a node port of Service {}", other.key()));
        }
    }
    None
}

fn ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    !node.is_deleting()
        && node.label(EXCLUDE).is_none()
        && conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The addresses of a node by family: what it has to the outside, else what it has.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let of = |kind: &str| -> Vec<IpAddr> {
        let all = node.status.iter().flat_map(|s| s.addresses.iter().flatten());
        all.filter(|a| a.type_ == kind).filter_map(|a| a.address.parse().ok()).collect()
    };
    let outer = of("ExternalIP");
    if outer.is_empty() { of("InternalIP") } else { outer }
}

/// The ingress addresses of a Service.
fn ingress(service: &Service, nodes: &[Arc<Node>], slices: &[Arc<EndpointSlice>]) -> Vec<IpAddr> {
    let spec = service.spec.clone().unwrap_or_default();
    let families = spec.ip_families.unwrap_or_else(|| vec!["IPv4".to_owned()]);
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let with_endpoints: BTreeSet<&str> = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
        .filter_map(|e| e.node_name.as_deref())
        .collect();
    let mut found: Vec<IpAddr> = nodes
        .iter()
        .filter(|node| ready(node) && (!local || with_endpoints.contains(node.name())))
        .flat_map(|node| addresses(node))
        .filter(|ip| families.iter().any(|f| f == if ip.is_ipv4() { "IPv4" } else { "IPv6" }))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

struct Controller {
    context: Context,
    services: Informer<Service>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let (services, nodes, slices) =
        (factory.informer::<Service>(), factory.informer::<Node>(), factory.informer::<EndpointSlice>());
    slices.add_index(BY_SERVICE, |slice| {
        let name = slice.label(SERVICE_NAME).map(|name| format!("{}/{name}", slice.namespace()));
        name.into_iter().collect()
    });
    let queue = Arc::new(Queue::new());
    let all = services.clone();
    let every = move |queue: &Queue<String>| {
        all.cache().list().iter().filter(|s| ours(s)).for_each(|service| queue.add(service.key()));
    };
    let (handed, others) = (queue.clone(), every.clone());
    services.add_handler(move |delta| {
        let service = delta.object();
        let was = matches!(delta, Delta::Updated { old, .. } if ours(old));
        if ours(service) || was || !shown(service).is_empty() {
            handed.add(service.key());
        }
        // Ports that come free are somebody else's turn.
        if matches!(delta, Delta::Deleted(_)) || was {
            others(&handed);
        }
    });
    let (handed, others) = (queue.clone(), every.clone());
    nodes.add_handler(move |delta| {
        let changed = match delta {
            Delta::Updated { old, new } => ready(old) != ready(new) || addresses(old) != addresses(new),
            _ => true,
        };
        if changed {
            others(&handed);
        }
    });
    let (handed, known) = (queue.clone(), services.clone());
    slices.add_handler(move |delta| {
        let slice = delta.object();
        let service = slice.label(SERVICE_NAME).and_then(|name| known.cache().get(slice.namespace(), name));
        let local = |s: &Service| s.spec.as_ref().and_then(|s| s.external_traffic_policy.as_deref()) == Some("Local");
        if let Some(service) = service.filter(|s| ours(s) && local(s)) {
            handed.add(service.key());
        }
    });
    services.synced().await;
    nodes.synced().await;
    slices.synced().await;
    let shutdown = context.shutdown.clone();
    let controller = Arc::new(Controller { context, services, nodes, slices });
    run_workers("node ip load balancer", queue, 1, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

fn shown(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let all = status.and_then(|l| l.ingress.as_deref()).unwrap_or_default();
    all.iter().filter_map(|i: &LoadBalancerIngress| i.ip.as_deref()?.parse().ok()).collect()
}

fn list(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("[{}]", texts.join(" "))
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(service) = self.services.cache().get_key(key).filter(|s| !s.is_deleting()) else { return Ok(()) };
        let foreign = service.spec.as_ref().is_some_and(|s| {
            s.type_.as_deref() == Some("LoadBalancer") && s.load_balancer_class.as_deref().is_some_and(|c| c != CLASS)
        });
        if foreign {
            return Ok(());
        }
        let before = shown(&service);
        let wanted = if !ours(&service) {
            Vec::new()
        } else if let Some(why) = conflict(&service, &self.services.cache().list()) {
            let message = format!("no load balancer on the nodes: {why}");
            self.context.recorder.event(&*service, EventType::Warning, "PortConflict", message);
            Vec::new()
        } else {
            ingress(&service, &self.nodes.cache().list(), &self.slices.cache().by_index(BY_SERVICE, key))
        };
        if wanted == before {
            return Ok(());
        }
        let mut entries = Vec::with_capacity(wanted.len());
        for ip in &wanted {
            entries.push(json!({"ip": ip.to_string(), "ipMode": "VIP"}));
        }
        let balancer = if entries.is_empty() { json!({"ingress": null}) } else { json!({"ingress": entries}) };
        let patch = json!({"status": {"loadBalancer": balancer}});
        let client = &self.context.client;
        match client.patch_status::<Service>(service.namespace(), service.name(), &PatchKind::Merge, &patch).await {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let message = format!("Updated LoadBalancer with new IPs: {} -> {}", list(&before), list(&wanted));
        self.context.recorder.event(&*service, EventType::Normal, "UpdatedLoadBalancer", message);
        // Those that wait for ports of this Service were told when it changed.
        Ok(())
    }
}

/// What each Service of a cluster would get; for tests.
#[cfg(test)]
fn plan(
    services: &[Arc<Service>],
    nodes: &[Arc<Node>],
) -> std::collections::BTreeMap<String, Result<Vec<IpAddr>, String>> {
    let one = |s: &Arc<Service>| {
        let found = conflict(s, services).map_or_else(|| Ok(ingress(s, nodes, &[])), Err);
        (s.key(), found)
    };
    services.iter().filter(|s| ours(s)).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, port: i32, minute: u32, extra: serde_json::Value) -> Arc<Service> {
        let mut tree = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")},
            "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{"port": port}]},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            tree["spec"][key] = value.clone();
        }
        Arc::new(api::from_value(tree).unwrap())
    }

    fn node(name: &str, ready: &str, ip: &str) -> Arc<Node> {
        Arc::new(
            api::from_value(json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                "status": {
                    "conditions": [{"type": "Ready", "status": ready}],
                    "addresses": [{"type": "InternalIP", "address": ip}, {"type": "InternalIP", "address": "fd00::1"}],
                },
            }))
            .unwrap(),
        )
    }

    #[test]
    fn ports_are_the_oldest_services() {
        let nodes = [node("a", "True", "10.0.0.1"), node("b", "False", "10.0.0.2"), node("c", "True", "10.0.0.3")];
        let services = [
            service("young", 80, 5, json!({})),
            service("old", 80, 1, json!({})),
            service("other", 443, 9, json!({})),
            service("kubelet", 10_250, 1, json!({})),
            service("local", 81, 1, json!({"externalTrafficPolicy": "Local"})),
            service("foreign", 443, 0, json!({"loadBalancerClass": "else.where/x"})),
            service("hidden", 30_001, 1, json!({})),
            service("npo", 82, 1, json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 30_001}]})),
        ];
        let found = plan(&services, &nodes);
        let ips = Ok(vec!["10.0.0.1".parse().unwrap(), "10.0.0.3".parse().unwrap()]);
        assert_eq!(found["n/old"], ips);
        assert_eq!(found["n/other"], ips);
        assert_eq!(found["n/young"], Err("port 80/TCP is taken by Service n/old".to_owned()));
        assert_eq!(found["n/hidden"], Err("port 30001/TCP is a node port of Service n/npo".to_owned()));
        assert!(found["n/kubelet"].is_err() && !found.contains_key("n/foreign"));
        assert_eq!(found["n/local"], Ok(Vec::new()), "no endpoints, no nodes");
    }
}
