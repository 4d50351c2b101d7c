//! API objects to what the zone knows.

use crate::model::{Endpoint, Port, Service, ServiceName, Slice};
use api::Kind;
use api::k8s::core::v1 as core;
use api::k8s::discovery::v1::EndpointSlice;

fn protocol(word: Option<&str>) -> &'static str {
    match word {
        Some("UDP") => "udp",
        Some("SCTP") => "sctp",
        _ => "tcp",
    }
}

fn number(port: i32) -> u16 {
    u16::try_from(port).unwrap_or(0)
}

/// A Service's name.
pub fn service_name(object: &core::Service) -> ServiceName {
    ServiceName::new(object.namespace(), object.name())
}

/// How a Service is found; `None` while it has no address yet.
pub fn service(object: &core::Service) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return spec.external_name.clone().filter(|n| !n.is_empty()).map(Service::External);
    }
    let first = spec.cluster_ip.as_deref().unwrap_or_default();
    if first == "None" {
        return Some(Service::Headless);
    }
    let mut texts = spec.cluster_ips.clone().unwrap_or_default();
    if texts.is_empty() {
        texts.push(first.to_owned());
    }
    let ips: Vec<_> = texts.iter().filter_map(|t| t.parse().ok()).collect();
    let ports = spec.ports.iter().flatten().map(|p| Port {
        name: p.name.clone().unwrap_or_default(),
        protocol: protocol(p.protocol.as_deref()),
        port: number(p.port),
    });
    (!ips.is_empty()).then(|| Service::Cluster { ips, ports: ports.collect() })
}

/// A slice's ready endpoints; `None` for slices of no Service or without addresses.
pub fn slice(object: &EndpointSlice) -> Option<Slice> {
    let service = object.label("kubernetes.io/service-name").filter(|s| !s.is_empty())?;
    if object.address_type == "FQDN" {
        return None;
    }
    let mut endpoints = Vec::new();
    for endpoint in object.endpoints.iter().flatten() {
        // Publishing what is not ready is the slice controller's work: it then says "ready".
        if !endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true) {
            continue;
        }
        let hostname = endpoint.hostname.clone().unwrap_or_default();
        let ips = endpoint.addresses.iter().filter_map(|a| a.parse().ok());
        endpoints.extend(ips.map(|ip| Endpoint { ip, hostname: hostname.clone() }));
    }
    let ports = object.ports.iter().flatten().filter_map(|p| {
        Some(Port {
            name: p.name.clone().unwrap_or_default(),
            protocol: protocol(p.protocol.as_deref()),
            port: number(p.port?),
        })
    });
    Some(Slice { service: ServiceName::new(object.namespace(), service), ports: ports.collect(), endpoints })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn services_and_slices() {
        let from = |spec: serde_json::Value| {
            service(
                &serde_json::from_value(json!({ "metadata": { "name": "s", "namespace": "n" }, "spec": spec }))
                    .unwrap(),
            )
        };
        assert_eq!(from(json!({ "clusterIP": "None" })), Some(Service::Headless));
        assert_eq!(
            from(json!({ "type": "ExternalName", "externalName": "x.org" })),
            Some(Service::External("x.org".into()))
        );
        assert!(
            matches!(from(json!({ "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] })), Some(Service::Cluster { ips, ports }) if ips.len() == 1 && ports[0].protocol == "tcp")
        );
        assert_eq!(from(json!({})), None);
        let object = json!({ "metadata": { "name": "s-1", "namespace": "n", "labels": { "kubernetes.io/service-name": "s" } }, "addressType": "IPv4", "ports": [{ "port": 80 }],
            "endpoints": [{ "addresses": ["10.1.0.1"], "hostname": "Web-0" }, { "addresses": ["10.1.0.2"], "conditions": { "ready": false } }] });
        let found = slice(&serde_json::from_value(object).unwrap()).unwrap();
        assert_eq!(found.endpoints.len(), 1);
        assert_eq!(found.endpoints[0].label(), "web-0");
    }
}
