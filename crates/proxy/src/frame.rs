//! The fixed part of the table: maps, sets, base chains and what leads from the hooks to the services' chains.

use crate::model::Settings;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use sys::nft::{
    Chain, ChainKind, Command, DataType, Direction, Element, Family, Field, Hook, Op, Rule, Set, Stmt, Transaction,
    Value, state,
};

/// The table's name in both families.
pub const TABLE: &str = "kube-proxy";
/// Where connections to nobody are refused.
pub const REJECT_CHAIN: &str = "reject-chain";
const SERVICES: &str = "services";
const MASQUERADING: &str = "masquerading";
const CLUSTER_IPS_CHECK: &str = "cluster-ips-check";
const SERVICE_CHECK: &str = "service-endpoints-check";
const NODE_PORT_CHECK: &str = "nodeport-endpoints-check";
const FIREWALL_CHECK: &str = "firewall-check";
const LOOPBACK_CHECK: &str = "loopback-check";
const NODE_PORT_IPS: &str = "nodeport-ips";

/// The maps and sets whose elements follow Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Map {
    /// ClusterIP, external and load balancer addresses to chains.
    ServiceIps,
    /// Node ports to chains.
    NodePorts,
    /// Addresses without usable endpoints to a refusal.
    NoEndpointServices,
    /// Node ports without usable endpoints to a refusal.
    NoEndpointNodePorts,
    /// Load balancer addresses with source ranges to chains.
    FirewallIps,
    /// ClusterIPs in use.
    ClusterIps,
    /// Local endpoints that talk to themselves.
    Hairpin,
}

impl Map {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ServiceIps,
        Self::NodePorts,
        Self::NoEndpointServices,
        Self::NoEndpointNodePorts,
        Self::FirewallIps,
        Self::ClusterIps,
        Self::Hairpin,
    ];

    /// Its name in nf_tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceIps => "service-ips",
            Self::NodePorts => "service-nodeports",
            Self::NoEndpointServices => "no-endpoint-services",
            Self::NoEndpointNodePorts => "no-endpoint-nodeports",
            Self::FirewallIps => "firewall-ips",
            Self::ClusterIps => "cluster-ips",
            Self::Hairpin => "hairpin-connections",
        }
    }

    fn set(self) -> Set {
        use DataType::{Addr, Port, Proto};
        let (key, verdicts, comment) = match self {
            Self::ServiceIps => (vec![Addr, Proto, Port], true, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
            Self::NodePorts => (vec![Proto, Port], true, "NodePort traffic"),
            Self::NoEndpointServices => {
                (vec![Addr, Proto, Port], true, "vmap to drop or reject packets to services with no endpoints")
            }
            Self::NoEndpointNodePorts => {
                (vec![Proto, Port], true, "vmap to drop or reject packets to service nodeports with no endpoints")
            }
            Self::FirewallIps => {
                (vec![Addr, Proto, Port], true, "destinations that are subject to LoadBalancerSourceRanges")
            }
            Self::ClusterIps => (vec![Addr], false, "Active ClusterIPs"),
            Self::Hairpin => (vec![Addr, Addr, Proto, Port], false, "service hairpin connections"),
        };
        Set { name: self.name().into(), key, verdicts, timeout_seconds: None, comment: comment.into() }
    }
}

fn front() -> Vec<Field> {
    vec![Field::DestinationAddr, Field::L4Proto, Field::DestinationPort]
}

fn node_port() -> Vec<Field> {
    vec![Field::L4Proto, Field::DestinationPort]
}

fn loopback(family: Family) -> IpNet {
    match family {
        Family::Ip => IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        Family::Ip6 => IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)),
    }
}

/// Which packets are for a node port.
fn to_node(settings: &Settings) -> Vec<Stmt> {
    if settings.node_port_ips.is_some() {
        return vec![Stmt::AddrInSet(Direction::Destination, Op::Is, NODE_PORT_IPS.into())];
    }
    let mut stmts = vec![Stmt::FibLocal(Direction::Destination)];
    if !localhost(settings) {
        stmts.push(Stmt::Addr(Direction::Destination, Op::IsNot, loopback(settings.family)));
    }
    stmts
}

/// Node ports on loopback exist for IPv4 only: IPv6 has no route_localnet.
fn localhost(settings: &Settings) -> bool {
    settings.localhost_node_ports && settings.family == Family::Ip
}

/// "Is not from a pod", by the detector; `None` when it cannot be told.
pub fn not_from_pod(settings: &Settings, op: Op) -> Option<Stmt> {
    use crate::model::LocalDetector as D;
    match &settings.detector {
        D::Cidr(net) if Family::of(net.addr()) == settings.family => Some(Stmt::Addr(Direction::Source, op, *net)),
        D::None | D::Cidr(_) => None,
        D::Bridge(name) => Some(Stmt::InLink(op, name.clone())),
        D::InterfacePrefix(prefix) => Some(Stmt::InLink(op, format!("{prefix}*"))),
    }
}

const BASE_CHAINS: [(&str, ChainKind, Hook, i32); 8] = [
    ("filter-prerouting-pre-dnat", ChainKind::Filter, Hook::Prerouting, -110),
    ("filter-output-pre-dnat", ChainKind::Filter, Hook::Output, -110),
    ("filter-input", ChainKind::Filter, Hook::Input, 0),
    ("filter-forward", ChainKind::Filter, Hook::Forward, 0),
    ("filter-output", ChainKind::Filter, Hook::Output, 0),
    ("nat-prerouting", ChainKind::Nat, Hook::Prerouting, -100),
    ("nat-output", ChainKind::Nat, Hook::Output, -100),
    ("nat-postrouting", ChainKind::Nat, Hook::Postrouting, 100),
];

/// From a base chain, for new connections only or for all packets, to a chain.
const JUMPS: [(&str, bool, &str); 11] = [
    ("filter-input", true, NODE_PORT_CHECK),
    ("filter-input", true, SERVICE_CHECK),
    ("filter-forward", true, SERVICE_CHECK),
    ("filter-output", true, SERVICE_CHECK),
    ("filter-prerouting-pre-dnat", true, FIREWALL_CHECK),
    ("filter-output-pre-dnat", true, FIREWALL_CHECK),
    ("nat-output", false, SERVICES),
    ("nat-prerouting", false, SERVICES),
    ("nat-postrouting", false, MASQUERADING),
    ("filter-forward", true, CLUSTER_IPS_CHECK),
    ("filter-output", true, CLUSTER_IPS_CHECK),
];

/// Makes the table anew with everything but what follows Services.
pub fn build(settings: &Settings) -> Transaction {
    let mut t = Transaction::new(settings.family, TABLE);
    t.recreate_table("rules for kube-proxy");
    for map in Map::ALL {
        t.push(Command::AddSet(map.set()));
    }
    if let Some(ips) = &settings.node_port_ips {
        let comment = "IPs that accept NodePort traffic".to_owned();
        t.push(Command::AddSet(Set {
            name: NODE_PORT_IPS.into(),
            key: vec![DataType::Addr],
            verdicts: false,
            timeout_seconds: None,
            comment,
        }));
        let own = ips.iter().filter(|ip| Family::of(**ip) == settings.family);
        let elements: Vec<Element> =
            own.map(|ip| Element { key: vec![Value::Addr(*ip)], verdict: None, comment: String::new() }).collect();
        if !elements.is_empty() {
            t.push(Command::AddElements { set: NODE_PORT_IPS.into(), elements });
        }
    }
    for (name, kind, hook, priority) in BASE_CHAINS {
        t.push(Command::AddChain(Chain { name: name.into(), base: Some((kind, hook, priority)) }));
    }
    for name in
        [SERVICES, MASQUERADING, CLUSTER_IPS_CHECK, SERVICE_CHECK, NODE_PORT_CHECK, FIREWALL_CHECK, REJECT_CHAIN]
    {
        t.push(Command::AddChain(Chain { name: name.into(), base: None }));
    }
    if localhost(settings) {
        guard_loopback(&mut t, settings.family);
    }
    for (from, new_only, to) in JUMPS {
        let mut stmts = Vec::new();
        if new_only {
            stmts.push(Stmt::CtState(state::NEW));
        }
        stmts.push(Stmt::jump(to));
        t.rule(from, Rule::new(stmts));
    }
    checks(&mut t, settings);
    dispatch(&mut t, settings);
    t
}

/// With `route_localnet` a neighbour could send to our loopback: only what we translated ourselves may pass.
fn guard_loopback(t: &mut Transaction, family: Family) {
    t.push(Command::AddChain(Chain { name: LOOPBACK_CHECK.into(), base: None }));
    let net = loopback(family);
    let outside = [
        Stmt::Addr(Direction::Source, Op::IsNot, net),
        Stmt::Addr(Direction::Destination, Op::Is, net),
        Stmt::jump(LOOPBACK_CHECK),
    ];
    t.rule("filter-input", Rule::new(outside));
    t.rule(LOOPBACK_CHECK, Rule::new([Stmt::CtState(state::ESTABLISHED | state::RELATED), Stmt::back()]));
    t.rule(LOOPBACK_CHECK, Rule::new([Stmt::CtDnat, Stmt::back()]));
    t.rule(LOOPBACK_CHECK, Rule::new([Stmt::drop()]).comment("block incoming localnet connections"));
}

fn checks(t: &mut Transaction, settings: &Settings) {
    t.rule(REJECT_CHAIN, Rule::new([Stmt::Reject]));
    t.rule(SERVICE_CHECK, Rule::new([Stmt::Vmap(front(), Map::NoEndpointServices.name().into())]));
    let mut stmts = to_node(settings);
    stmts.push(Stmt::Vmap(node_port(), Map::NoEndpointNodePorts.name().into()));
    t.rule(NODE_PORT_CHECK, Rule::new(stmts));
    t.rule(FIREWALL_CHECK, Rule::new([Stmt::Vmap(front(), Map::FirewallIps.name().into())]));
    let active = Stmt::AddrInSet(Direction::Destination, Op::Is, Map::ClusterIps.name().into());
    t.rule(
        CLUSTER_IPS_CHECK,
        Rule::new([active, Stmt::Reject]).comment("Reject traffic to invalid ports of ClusterIPs"),
    );
    for net in settings.service_cidrs.iter().filter(|n| Family::of(n.addr()) == settings.family) {
        // A server on this node may listen on such an address itself: cluster DNS does.
        let here =
            [Stmt::Addr(Direction::Destination, Op::Is, *net), Stmt::FibLocal(Direction::Destination), Stmt::back()];
        t.rule(CLUSTER_IPS_CHECK, Rule::new(here));
        let stmts = [Stmt::Addr(Direction::Destination, Op::Is, *net), Stmt::drop()];
        t.rule(CLUSTER_IPS_CHECK, Rule::new(stmts).comment("Drop traffic to unallocated ClusterIPs"));
    }
}

fn dispatch(t: &mut Transaction, settings: &Settings) {
    let mark = settings.masquerade_mark;
    let cluster_ip = || Stmt::AddrInSet(Direction::Destination, Op::Is, Map::ClusterIps.name().into());
    if settings.masquerade_all {
        t.rule(SERVICES, Rule::new([cluster_ip(), Stmt::SetMark(mark)]).comment("masquerade all clusterIP traffic"));
    } else if let Some(outside) = not_from_pod(settings, Op::IsNot) {
        let rule = Rule::new([cluster_ip(), outside, Stmt::SetMark(mark)]);
        t.rule(SERVICES, rule.comment("masquerade clusterIP traffic from outside cluster"));
    }
    t.rule(SERVICES, Rule::new([Stmt::Vmap(front(), Map::ServiceIps.name().into())]));
    let mut stmts = to_node(settings);
    stmts.push(Stmt::Vmap(node_port(), Map::NodePorts.name().into()));
    t.rule(SERVICES, Rule::new(stmts));
    let masquerade = Stmt::Masquerade { fully_random: true };
    t.rule(MASQUERADING, Rule::new([Stmt::Mark(mark), Stmt::ClearMark(mark), masquerade.clone()]));
    let hairpin = vec![Field::SourceAddr, Field::DestinationAddr, Field::L4Proto, Field::DestinationPort];
    t.rule(
        MASQUERADING,
        Rule::new([Stmt::CtDnat, Stmt::InSet(hairpin, Op::Is, Map::Hairpin.name().into()), masquerade]),
    );
}
