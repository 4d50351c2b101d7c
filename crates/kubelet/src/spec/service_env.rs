//! The environment variables that tell a container of its namespace's Services, in upstream's (and Docker's) form.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::k8s::Kind;
use crate::k8s::core::Service;

/// The variables for a pod in `namespace`. The `kubernetes` Service is always there; the others with `links`.
#[must_use]
pub fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let master = service.namespace() == "default" && service.name() == "kubernetes";
        let own = service.namespace() == namespace && links;
        // The namespace's own Service of that name wins over the master's.
        if own || (master && !chosen.contains_key("kubernetes")) {
            chosen.insert(service.name(), service);
        }
    }
    let mut out = BTreeMap::new();
    for service in chosen.into_values() {
        add(service, &mut out);
    }
    out
}

fn add(service: &Service, out: &mut BTreeMap<String, String>) {
    let Some(spec) = service.spec.as_ref() else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let prefix = service.name().to_uppercase().replace('-', "_");
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            out.insert(
                format!("{prefix}_SERVICE_PORT_{}", name.to_uppercase().replace('-', "_")),
                port.port.to_string(),
            );
        }
    }
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            out.insert(format!("{prefix}_PORT"), url.clone());
        }
        let base = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.insert(format!("{base}_PROTO"), protocol.to_lowercase());
        out.insert(format!("{base}_PORT"), port.port.to_string());
        out.insert(format!("{base}_ADDR"), ip.to_owned());
        out.insert(base, url);
    }
}
