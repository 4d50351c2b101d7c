//! Which endpoints a service port may use on this node: slices merged, conditions, topology, traffic policies.

use crate::model::{Service, ServicePort, Slice};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use sys::nft::Proto;

/// An endpoint of one service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Where it listens.
    pub address: SocketAddr,
    /// On this node.
    pub local: bool,
    /// Takes new connections.
    pub ready: bool,
    /// Answers, ready or terminating.
    pub serving: bool,
    /// Goes away.
    pub terminating: bool,
    /// The slice's entry, for hints.
    source: &'a crate::model::SliceEndpoint,
}

/// Endpoints of all slices that serve a port of this name and protocol, by address. Of two with the same address the
/// one that is not terminating counts.
pub fn merge<'a>(
    slices: impl IntoIterator<Item = &'a Slice>,
    name: &str,
    proto: Proto,
    node: &str,
) -> Vec<Endpoint<'a>> {
    let mut all: BTreeMap<SocketAddr, Endpoint<'a>> = BTreeMap::new();
    for slice in slices {
        for port in slice.ports.iter().filter(|p| p.name == name && p.proto == proto && p.port != 0) {
            for source in &slice.endpoints {
                let endpoint = Endpoint {
                    address: SocketAddr::new(source.ip, port.port),
                    local: !node.is_empty() && source.node == node,
                    ready: source.ready,
                    serving: source.serving,
                    terminating: source.terminating,
                    source,
                };
                let keep = all.get(&endpoint.address).is_some_and(|old| !old.terminating || endpoint.terminating);
                if !keep {
                    all.insert(endpoint.address, endpoint);
                }
            }
        }
    }
    all.into_values().collect()
}

/// A service port's endpoints by traffic policy.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Categories {
    /// For policy Cluster.
    pub cluster: Vec<SocketAddr>,
    /// For policy Local.
    pub local: Vec<SocketAddr>,
    /// Those of both on this node, for the hairpin set.
    pub on_node: Vec<SocketAddr>,
    /// Whether any node has a usable endpoint.
    pub any: bool,
}

impl Categories {
    /// All endpoints that this node may use.
    pub fn reachable(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = self.cluster.iter().chain(&self.local).copied().collect();
        all.sort();
        all.dedup();
        all
    }
}

/// Whether the port is reachable from outside the cluster.
pub fn externally_accessible(service: &Service, port: &ServicePort) -> bool {
    port.node_port != 0 || !service.load_balancer_ips.is_empty() || !service.external_ips.is_empty()
}

/// Whether policy Cluster plays a part: also for outside traffic under policy Local, whose local senders go anywhere.
pub fn uses_cluster(service: &Service, port: &ServicePort) -> bool {
    !service.internal_local || externally_accessible(service, port)
}

/// Whether policy Local plays a part.
pub fn uses_local(service: &Service, port: &ServicePort) -> bool {
    service.internal_local || (service.external_local && externally_accessible(service, port))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Topology {
    Everywhere,
    SameNode,
    SameZone,
}

/// Node hints count if every ready endpoint has one and one names this node; else zone hints likewise.
fn topology(endpoints: &[Endpoint<'_>], node: &str, zone: &str) -> Topology {
    let ready = || endpoints.iter().filter(|e| e.ready);
    if ready().next().is_none() {
        return Topology::Everywhere;
    }
    let usable = |hints: &dyn Fn(&Endpoint<'_>) -> bool, here: &dyn Fn(&Endpoint<'_>) -> bool| {
        ready().all(hints) && ready().any(here)
    };
    if usable(&|e| !e.source.node_hints.is_empty(), &|e| e.source.node_hints.contains(node)) {
        return Topology::SameNode;
    }
    if !zone.is_empty() && usable(&|e| !e.source.zone_hints.is_empty(), &|e| e.source.zone_hints.contains(zone)) {
        return Topology::SameZone;
    }
    Topology::Everywhere
}

/// Sorts a port's endpoints by policy; without ready ones, those that still serve while terminating take their place.
pub fn categorize(
    endpoints: &[Endpoint<'_>],
    service: &Service,
    port: &ServicePort,
    node: &str,
    zone: &str,
) -> Categories {
    let pick = |test: &dyn Fn(&Endpoint<'_>) -> bool| -> Vec<SocketAddr> {
        endpoints.iter().filter(|e| test(e)).map(|e| e.address).collect()
    };
    let leaving = |e: &Endpoint<'_>| e.serving && e.terminating;
    let mut out = Categories::default();
    if uses_cluster(service, port) {
        let topology = topology(endpoints, node, zone);
        out.cluster = pick(&|e| {
            e.ready
                && match topology {
                    Topology::Everywhere => true,
                    Topology::SameNode => e.source.node_hints.contains(node),
                    Topology::SameZone => e.source.zone_hints.contains(zone),
                }
        });
        if out.cluster.is_empty() {
            out.cluster = pick(&leaving);
        }
        out.any |= !out.cluster.is_empty();
    }
    if uses_local(service, port) {
        out.local = pick(&|e| e.local && e.ready);
        if out.local.is_empty() {
            out.local = pick(&|e| e.local && leaving(e));
        }
        out.any |= endpoints.iter().any(|e| e.ready || leaving(e));
    }
    let reachable = out.reachable();
    out.on_node = pick(&|e| e.local && reachable.binary_search(&e.address).is_ok());
    out
}

#[cfg(test)]
mod tests;
