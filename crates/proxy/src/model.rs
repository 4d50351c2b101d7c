//! What the planner is told: Services, EndpointSlices and the node as plain data, free of API types.

use ipnet::IpNet;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
pub use sys::nft::{Family, Proto};

/// A Service's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ServiceName {
    /// From its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, empty for the only one.
    pub name: String,
    /// Protocol.
    pub proto: Proto,
    /// Port.
    pub port: u16,
    /// Node port, 0 for none.
    pub node_port: u16,
}

/// A Service that has cluster addresses. Headless and ExternalName ones never become a value of this type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Cluster addresses of both families.
    pub cluster_ips: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Load balancer addresses that are to be taken on the node (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`; empty allows all.
    pub source_ranges: Vec<IpNet>,
    /// Seconds a client stays with an endpoint.
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `healthCheckNodePort` of a load balancer with `externalTrafficPolicy: Local`, else 0.
    pub health_check_node_port: u16,
}

/// A port of an EndpointSlice; ports without a number are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// Name, empty for the only one.
    pub name: String,
    /// Protocol.
    pub proto: Proto,
    /// Port.
    pub port: u16,
}

/// An endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its first address.
    pub ip: IpAddr,
    /// Ready; absent means so.
    pub ready: bool,
    /// Serving; absent means so.
    pub serving: bool,
    /// Terminating.
    pub terminating: bool,
    /// Its node.
    pub node: String,
    /// Zones for which it is meant.
    pub zone_hints: BTreeSet<String>,
    /// Nodes for which it is meant.
    pub node_hints: BTreeSet<String>,
}

/// An EndpointSlice with IP addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Whose endpoints.
    pub service: ServiceName,
    /// Address family.
    pub family: Family,
    /// Ports.
    pub ports: Vec<SlicePort>,
    /// Endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// How traffic of this node's (or cluster's) pods is told from other traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LocalDetector {
    /// Not at all.
    #[default]
    None,
    /// Source addresses in this prefix are pods.
    Cidr(IpNet),
    /// What comes by this bridge is from pods.
    Bridge(String),
    /// What comes by interfaces of this prefix is from pods.
    InterfacePrefix(String),
}

/// What one family's planner must know besides objects. A change of it rewrites everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The family.
    pub family: Family,
    /// This node's name.
    pub node: String,
    /// This node's zone, empty when unknown.
    pub zone: String,
    /// This node's address of the family.
    pub node_ip: Option<IpAddr>,
    /// Masquerade everything that goes to a ClusterIP.
    pub masquerade_all: bool,
    /// The mark bit for masquerading.
    pub masquerade_mark: u32,
    /// How pods' traffic is told.
    pub detector: LocalDetector,
    /// Ranges in which addresses of no Service are dropped.
    pub service_cidrs: Vec<IpNet>,
    /// Addresses that accept node ports; `None` for all of the node's.
    pub node_port_ips: Option<Vec<IpAddr>>,
    /// Whether node ports answer on 127.0.0.1 too (needs `route_localnet`).
    pub localhost_node_ports: bool,
}

impl Settings {
    /// Defaults for a family and node.
    pub fn new(family: Family, node: impl Into<String>) -> Self {
        Self {
            family,
            node: node.into(),
            zone: String::new(),
            node_ip: None,
            masquerade_all: false,
            masquerade_mark: 1 << 14,
            detector: LocalDetector::None,
            service_cidrs: Vec::new(),
            node_port_ips: None,
            localhost_node_ports: true,
        }
    }
}
