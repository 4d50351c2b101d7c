//! One Service's part of the table, as a function of the Service, its slices and the settings.

use crate::endpoints::{Categories, categorize, externally_accessible, merge, uses_cluster, uses_local};
use crate::frame::{Map, REJECT_CHAIN, not_from_pod};
use crate::model::{Service, ServiceName, ServicePort, Settings, Slice};
use crate::names::PortNames;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use sys::nft::{Direction, Family, Key, Op, Proto, Rule, Stmt, Value, Verdict};

/// Where an element leads, and its comment; a set's element leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The verdict, for maps.
    pub verdict: Option<Verdict>,
    /// Shown by `nft list`.
    pub comment: String,
}

/// A Service's part of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// Elements of maps and sets.
    pub elements: BTreeMap<(Map, Key), Target>,
    /// Its chains with their rules.
    pub chains: BTreeMap<String, Vec<Rule>>,
    /// Its affinity sets with their seconds.
    pub affinity: BTreeMap<String, u32>,
    /// UDP front ends and the endpoints that serve them, for conntrack.
    pub udp: Vec<UdpPort>,
    /// Ports whose internal, then external traffic is dropped because of policy Local.
    pub no_local: (u32, u32),
    /// Endpoints counted.
    pub endpoints: usize,
}

/// A UDP service port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UdpPort {
    /// Addresses of the front end.
    pub front_ends: Vec<SocketAddr>,
    /// Node port, 0 for none.
    pub node_port: u16,
    /// Endpoints that serve.
    pub endpoints: Vec<SocketAddr>,
}

struct Port<'a> {
    settings: &'a Settings,
    service: &'a Service,
    port: &'a ServicePort,
    names: PortNames,
    label: String,
    cluster_ip: IpAddr,
    external_ips: Vec<IpAddr>,
    lb_ips: Vec<IpAddr>,
    categories: Categories,
}

/// Compiles a Service for one family; `slices` are those of the Service.
pub fn compile<'a>(
    name: &ServiceName,
    service: &Service,
    slices: impl IntoIterator<Item = &'a Slice> + Clone,
    settings: &Settings,
) -> Piece {
    let mut piece = Piece::default();
    let own = |ips: &[IpAddr]| -> Vec<IpAddr> {
        ips.iter().copied().filter(|ip| Family::of(*ip) == settings.family).collect()
    };
    let Some(cluster_ip) = own(&service.cluster_ips).first().copied() else { return piece };
    for port in &service.ports {
        let of_family = slices.clone().into_iter().filter(|s| s.family == settings.family);
        let endpoints = merge(of_family, &port.name, port.proto, &settings.node);
        let categories = categorize(&endpoints, service, port, &settings.node, &settings.zone);
        let label = if port.name.is_empty() { name.to_string() } else { format!("{name}:{}", port.name) };
        let one = Port {
            settings,
            service,
            port,
            names: PortNames::new(name, port.proto, &port.name),
            label,
            cluster_ip,
            external_ips: own(&service.external_ips),
            lb_ips: own(&service.load_balancer_ips),
            categories,
        };
        one.compile(&mut piece);
        piece.endpoints += endpoints.len();
        if port.proto == Proto::Udp {
            let serving = endpoints.iter().filter(|e| e.serving).map(|e| e.address).collect();
            piece.udp.push(one.udp(serving));
        }
    }
    piece
}

impl Port<'_> {
    fn key(&self, ip: IpAddr) -> Key {
        vec![Value::Addr(ip), Value::Proto(self.port.proto), Value::Port(self.port.port)]
    }

    fn udp(&self, endpoints: Vec<SocketAddr>) -> UdpPort {
        let ips =
            [self.cluster_ip].into_iter().chain(self.external_ips.iter().copied()).chain(self.lb_ips.iter().copied());
        UdpPort {
            front_ends: ips.map(|ip| SocketAddr::new(ip, self.port.port)).collect(),
            node_port: self.port.node_port,
            endpoints,
        }
    }

    fn element(&self, piece: &mut Piece, map: Map, key: Key, verdict: Option<Verdict>, comment: bool) {
        let comment = if comment { self.label.clone() } else { String::new() };
        piece.elements.insert((map, key), Target { verdict, comment });
    }

    fn compile(&self, piece: &mut Piece) {
        let found = &self.categories;
        let external_part = externally_accessible(self.service, self.port);
        let policy_chain = |local: bool| if local { self.names.local() } else { self.names.cluster() };
        let usable = |local: bool| found.any && !(local && found.local.is_empty());
        let (internal, external) = (usable(self.service.internal_local), usable(self.service.external_local));
        let refusal = if found.any { Verdict::Drop } else { Verdict::Goto(REJECT_CHAIN.into()) };
        if found.any {
            piece.no_local.0 += u32::from(!internal);
            piece.no_local.1 += u32::from(!external && external_part);
        }

        self.element(piece, Map::ClusterIps, vec![Value::Addr(self.cluster_ip)], None, false);
        if internal {
            let chain = policy_chain(self.service.internal_local);
            self.element(piece, Map::ServiceIps, self.key(self.cluster_ip), Some(Verdict::Goto(chain)), false);
        } else {
            self.element(piece, Map::NoEndpointServices, self.key(self.cluster_ip), Some(refusal.clone()), true);
        }
        for ip in self.external_ips.iter().chain(&self.lb_ips) {
            if found.any {
                self.element(piece, Map::ServiceIps, self.key(*ip), Some(Verdict::Goto(self.names.external())), false);
            }
            if !external {
                self.element(piece, Map::NoEndpointServices, self.key(*ip), Some(refusal.clone()), true);
            }
        }
        if self.port.node_port != 0 {
            let key = vec![Value::Proto(self.port.proto), Value::Port(self.port.node_port)];
            if found.any {
                self.element(piece, Map::NodePorts, key.clone(), Some(Verdict::Goto(self.names.external())), false);
            }
            if !external {
                self.element(piece, Map::NoEndpointNodePorts, key, Some(refusal), true);
            }
        }
        if found.any && external_part {
            piece.chains.insert(
                self.names.external(),
                self.external_rules(external, policy_chain(self.service.external_local)),
            );
        }
        self.firewall(piece);
        self.endpoint_chains(piece);
    }

    /// What outside traffic passes before it reaches the endpoints of its policy.
    fn external_rules(&self, usable: bool, policy_chain: String) -> Vec<Rule> {
        let mark = Stmt::SetMark(self.settings.masquerade_mark);
        let mut rules = Vec::new();
        if self.service.external_local {
            let cluster = self.names.cluster();
            let has_cluster = !self.categories.cluster.is_empty();
            if let Some(from_pod) = not_from_pod(self.settings, Op::Is).filter(|_| has_cluster) {
                rules.push(Rule::new([from_pod, Stmt::goto(&cluster)]).comment("short-circuit pod traffic"));
            }
            let local = || Stmt::FibLocal(Direction::Source);
            rules.push(Rule::new([local(), mark]).comment("masquerade local traffic"));
            if has_cluster {
                rules.push(Rule::new([local(), Stmt::goto(cluster)]).comment("short-circuit local traffic"));
            }
        } else {
            rules.push(Rule::new([mark]).comment("masquerade"));
        }
        if usable {
            rules.push(Rule::new([Stmt::goto(policy_chain)]));
        }
        rules
    }

    /// Source ranges hold for load balancer addresses only; where the node itself is allowed, so is the address, which
    /// is the source when the node talks to it.
    fn firewall(&self, piece: &mut Piece) {
        let ranges: Vec<IpNet> = self
            .service
            .source_ranges
            .iter()
            .copied()
            .filter(|n| Family::of(n.addr()) == self.settings.family)
            .collect();
        // No range of this family, or one that holds everything, allows all.
        if self.lb_ips.is_empty() || ranges.is_empty() || ranges.iter().any(|n| n.prefix_len() == 0) {
            return;
        }
        let mut allowed = ranges.clone();
        if self.settings.node_ip.is_some_and(|ip| ranges.iter().any(|n| n.contains(&ip))) {
            allowed.extend(self.lb_ips.iter().map(|ip| IpNet::from(*ip)));
        }
        let chain = self.names.firewall();
        let mut rules: Vec<Rule> =
            allowed.iter().map(|net| Rule::new([Stmt::Addr(Direction::Source, Op::Is, *net), Stmt::back()])).collect();
        rules.push(Rule::new([Stmt::drop()]));
        for ip in &self.lb_ips {
            self.element(piece, Map::FirewallIps, self.key(*ip), Some(Verdict::Goto(chain.clone())), true);
        }
        piece.chains.insert(chain, rules);
    }

    fn endpoint_chains(&self, piece: &mut Piece) {
        let found = &self.categories;
        for endpoint in &found.on_node {
            let key = vec![
                Value::Addr(endpoint.ip()),
                Value::Addr(endpoint.ip()),
                Value::Proto(self.port.proto),
                Value::Port(endpoint.port()),
            ];
            self.element(piece, Map::Hairpin, key, None, false);
        }
        if uses_cluster(self.service, self.port) && !found.cluster.is_empty() {
            piece.chains.insert(self.names.cluster(), self.endpoint_rules(&found.cluster));
        }
        if uses_local(self.service, self.port) && !found.local.is_empty() {
            piece.chains.insert(self.names.local(), self.endpoint_rules(&found.local));
        }
        let Some(seconds) = self.service.affinity_seconds else { return };
        for endpoint in found.reachable() {
            let set = self.names.affinity(&endpoint);
            let rules = vec![
                Rule::new([Stmt::UpdateSet(Direction::Source, set.clone())]),
                Rule::new([Stmt::L4Proto(self.port.proto), Stmt::Dnat(endpoint)]),
            ];
            piece.chains.insert(self.names.endpoint(&endpoint), rules);
            piece.affinity.insert(set, seconds);
        }
    }

    fn endpoint_rules(&self, endpoints: &[SocketAddr]) -> Vec<Rule> {
        if self.service.affinity_seconds.is_none() {
            let dnat = match endpoints {
                [one] => Stmt::Dnat(*one),
                many => Stmt::RandomDnat(many.to_vec()),
            };
            return vec![Rule::new([Stmt::L4Proto(self.port.proto), dnat])];
        }
        let known = |e: &SocketAddr| {
            Rule::new([
                Stmt::AddrInSet(Direction::Source, Op::Is, self.names.affinity(e)),
                Stmt::goto(self.names.endpoint(e)),
            ])
        };
        let mut rules: Vec<Rule> = endpoints.iter().map(known).collect();
        let chains = endpoints.iter().map(|e| Verdict::Goto(self.names.endpoint(e))).collect();
        rules.push(Rule::new([Stmt::RandomVerdict(chains)]));
        rules
    }
}
