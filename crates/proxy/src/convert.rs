//! API objects to plain data. What does not parse is left out with a warning, as one bad address must not keep the
//! rest of a Service from working.

use crate::model::{Family, Proto, Service, ServiceName, ServicePort, Slice, SliceEndpoint, SlicePort};
use api::Kind;
use api::k8s::core::v1 as core;
use api::k8s::discovery::v1 as discovery;
use std::net::IpAddr;

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

fn proto(word: Option<&str>) -> Option<Proto> {
    match word.unwrap_or("TCP") {
        "" | "TCP" => Some(Proto::Tcp),
        "UDP" => Some(Proto::Udp),
        "SCTP" => Some(Proto::Sctp),
        _ => None,
    }
}

fn port(number: i32) -> u16 {
    u16::try_from(number).unwrap_or(0)
}

fn parse_all<T: std::str::FromStr>(name: &ServiceName, what: &'static str, words: &[String]) -> Vec<T> {
    let parse = |w: &String| {
        let parsed = w.trim().parse().ok();
        if parsed.is_none() {
            tracing::warn!(service = %name, what, value = w, "ignored a value that does not parse");
        }
        parsed
    };
    words.iter().filter_map(parse).collect()
}

/// The Service's name.
pub fn service_name(service: &core::Service) -> ServiceName {
    ServiceName::new(service.namespace(), service.name())
}

/// A Service to proxy; `None` for headless ones, ExternalName, and those that another proxy serves.
pub fn service(object: &core::Service) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let first = spec.cluster_ip.as_deref().unwrap_or_default();
    if kind == "ExternalName" || first.is_empty() || first == "None" || object.label(PROXY_NAME).is_some() {
        return None;
    }
    let name = service_name(object);
    let mut texts = spec.cluster_ips.clone().unwrap_or_default();
    if texts.is_empty() {
        texts.push(first.to_owned());
    }
    let node_ports = kind == "NodePort" || kind == "LoadBalancer";
    let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let ports = spec.ports.iter().flatten().filter_map(|p| {
        let node_port = if node_ports { p.node_port.map_or(0, port) } else { 0 };
        Some(ServicePort {
            name: p.name.clone().unwrap_or_default(),
            proto: proto(p.protocol.as_deref())?,
            port: port(p.port),
            node_port,
        })
    });
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config =
            spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
        config.and_then(|n| u32::try_from(n).ok()).unwrap_or(10800)
    });
    Some(Service {
        cluster_ips: parse_all(&name, "clusterIPs", &texts),
        ports: ports.collect(),
        external_ips: parse_all(&name, "externalIPs", spec.external_ips.as_deref().unwrap_or_default()),
        load_balancer_ips: load_balancer_ips(object, &name),
        source_ranges: parse_all(
            &name,
            "loadBalancerSourceRanges",
            spec.load_balancer_source_ranges.as_deref().unwrap_or_default(),
        ),
        affinity_seconds: affinity,
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local,
        health_check_node_port: if kind == "LoadBalancer" && external_local {
            spec.health_check_node_port.map_or(0, port)
        } else {
            0
        },
    })
}

/// Ingress addresses whose mode is VIP or unset.
fn load_balancer_ips(object: &core::Service, name: &ServiceName) -> Vec<IpAddr> {
    let status = object.status.as_ref().and_then(|s| s.load_balancer.as_ref()).and_then(|l| l.ingress.as_deref());
    let taken = status.unwrap_or_default().iter().filter(|i| i.ip_mode.as_deref().is_none_or(|m| m == "VIP"));
    let texts: Vec<String> = taken.filter_map(|i| i.ip.clone()).filter(|ip| !ip.is_empty()).collect();
    parse_all(name, "status.loadBalancer.ingress", &texts)
}

/// A slice to use; `None` for headless Services' ones, FQDN slices, and slices of no Service.
pub fn slice(object: &discovery::EndpointSlice) -> Option<Slice> {
    if object.label(HEADLESS).is_some() {
        return None;
    }
    let family = match object.address_type.as_str() {
        "IPv4" => Family::Ip,
        "IPv6" => Family::Ip6,
        _ => return None,
    };
    let service = object.label(SERVICE_NAME).filter(|s| !s.is_empty())?;
    let ports = object.ports.iter().flatten().filter_map(|p| {
        let number = p.port.map_or(0, port);
        (number != 0).then_some(())?;
        Some(SlicePort { name: p.name.clone().unwrap_or_default(), proto: proto(p.protocol.as_deref())?, port: number })
    });
    Some(Slice {
        service: ServiceName::new(object.namespace(), service),
        family,
        ports: ports.collect(),
        endpoints: object.endpoints.iter().flatten().filter_map(|e| endpoint(e, family)).collect(),
    })
}

fn endpoint(object: &discovery::Endpoint, family: Family) -> Option<SliceEndpoint> {
    let ip: IpAddr = object.addresses.first()?.parse().ok()?;
    let conditions = object.conditions.as_ref();
    let hints = object.hints.as_ref();
    (Family::of(ip) == family).then(|| SliceEndpoint {
        ip,
        ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: object.node_name.clone().unwrap_or_default(),
        zone_hints: hints.and_then(|h| h.for_zones.as_ref()).into_iter().flatten().map(|z| z.name.clone()).collect(),
        node_hints: hints.and_then(|h| h.for_nodes.as_ref()).into_iter().flatten().map(|n| n.name.clone()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn from(value: serde_json::Value) -> Option<Service> {
        service(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn services() {
        let full = from(json!({ "metadata": { "name": "s", "namespace": "n" }, "spec": {
            "type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
            "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": [" 10.0.0.0/8 ", "nonsense"], "externalIPs": ["192.0.2.1"],
            "ports": [{ "port": 80, "nodePort": 30080 }, { "name": "d", "port": 53, "protocol": "UDP" }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.1" }, { "ip": "203.0.113.2", "ipMode": "Proxy" }, { "hostname": "x" }] } } }))
        .unwrap();
        assert_eq!((full.cluster_ips.len(), full.load_balancer_ips.len(), full.source_ranges.len()), (2, 1, 1));
        assert_eq!(
            (full.affinity_seconds, full.health_check_node_port, full.external_local),
            (Some(10800), 31000, true)
        );
        assert_eq!((full.ports[0].node_port, full.ports[1].proto), (30080, Proto::Udp));
        for none in [
            json!({ "clusterIP": "None" }),
            json!({ "type": "ExternalName", "clusterIP": "10.0.0.1" }),
            json!({}),
            json!({ "clusterIP": "" }),
        ] {
            assert_eq!(from(json!({ "metadata": { "name": "s" }, "spec": none })), None);
        }
        let other = json!({ "metadata": { "name": "s", "labels": { PROXY_NAME: "mine" } }, "spec": { "clusterIP": "10.0.0.1" } });
        assert_eq!(from(other), None);
    }

    #[test]
    fn slices() {
        let object = |labels: serde_json::Value, kind: &str| {
            serde_json::from_value(json!({ "metadata": { "name": "s-1", "namespace": "n", "labels": labels }, "addressType": kind,
                "ports": [{ "name": "a", "port": 80 }, { "name": "b" }],
                "endpoints": [{ "addresses": ["10.1.0.1", "10.1.0.9"] }, { "addresses": ["fd00::1"] }, { "addresses": ["10.1.0.2"], "conditions": { "ready": false, "serving": true, "terminating": true }, "hints": { "forZones": [{ "name": "a" }] } }] }))
            .unwrap()
        };
        let found = slice(&object(json!({ SERVICE_NAME: "s" }), "IPv4")).unwrap();
        assert_eq!((found.ports.len(), found.endpoints.len()), (1, 2));
        assert!(
            found.endpoints[0].ready
                && found.endpoints[0].serving
                && !found.endpoints[1].ready
                && found.endpoints[1].terminating
        );
        assert!(slice(&object(json!({}), "IPv4")).is_none());
        assert!(slice(&object(json!({ SERVICE_NAME: "s" }), "FQDN")).is_none());
        assert!(slice(&object(json!({ SERVICE_NAME: "s", HEADLESS: "" }), "IPv4")).is_none());
    }
}
