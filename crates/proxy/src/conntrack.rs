//! UDP flows to a front end whose endpoint no longer serves: the kernel would send them there for ever.

use crate::compile::UdpPort;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use sys::netlink::conntrack::{Conntrack, Flow};
use sys::nft::Family;

const UDP: u8 = 17;

/// Front ends and who may answer for them. Ports without serving endpoints are left out, as upstream does: their
/// flows end by refusal.
#[derive(Debug, Default)]
pub struct Wanted {
    addresses: HashMap<SocketAddr, HashSet<SocketAddr>>,
    node_ports: HashMap<u16, HashSet<SocketAddr>>,
}

impl Wanted {
    /// Adds a service port.
    pub fn add(&mut self, port: &UdpPort) {
        if port.endpoints.is_empty() {
            return;
        }
        let endpoints: HashSet<SocketAddr> = port.endpoints.iter().copied().collect();
        if port.node_port != 0 {
            self.node_ports.insert(port.node_port, endpoints.clone());
        }
        for front in &port.front_ends {
            self.addresses.insert(*front, endpoints.clone());
        }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.node_ports.is_empty()
    }

    fn stale(&self, protocol: u8, to: SocketAddr, answered_by: SocketAddr) -> bool {
        if protocol != UDP {
            return false;
        }
        let endpoints = self.addresses.get(&to).or_else(|| self.node_ports.get(&to.port()));
        endpoints.is_some_and(|all| !all.contains(&answered_by))
    }
}

/// Deletes the stale flows; says how many.
pub fn clean(family: Family, wanted: &Wanted) -> Result<usize, sys::netlink::Error> {
    if wanted.is_empty() {
        return Ok(0);
    }
    let mut table = Conntrack::open()?;
    let stale = table.flows(family == Family::Ip6, |flow: &Flow| {
        let to = SocketAddr::new(flow.original.destination, flow.original.destination_port);
        let by = SocketAddr::new(flow.reply.source, flow.reply.source_port);
        wanted.stale(flow.original.protocol, to, by)
    })?;
    for flow in &stale {
        table.delete(flow)?;
    }
    Ok(stale.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flows_to_a_front_end_with_another_endpoint_are_stale() {
        let mut wanted = Wanted::default();
        let at = |t: &str| -> SocketAddr { t.parse().unwrap() };
        wanted.add(&UdpPort {
            front_ends: vec![at("10.96.0.10:53")],
            node_port: 30053,
            endpoints: vec![at("10.1.0.2:53")],
        });
        wanted.add(&UdpPort { front_ends: vec![at("10.96.0.11:53")], node_port: 0, endpoints: vec![] });
        for (protocol, to, by, stale) in [
            (UDP, "10.96.0.10:53", "10.1.0.2:53", false),
            (UDP, "10.96.0.10:53", "10.1.0.3:53", true),
            (UDP, "10.96.0.10:53", "10.96.0.10:53", true),
            (6, "10.96.0.10:53", "10.1.0.3:53", false),
            (UDP, "192.0.2.1:30053", "10.1.0.3:53", true),
            (UDP, "10.96.0.11:53", "10.1.0.3:53", false),
            (UDP, "8.8.8.8:53", "8.8.8.8:53", false),
        ] {
            assert_eq!(wanted.stale(protocol, at(to), at(by)), stale, "{to} by {by}");
        }
    }
}
