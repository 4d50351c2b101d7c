//! What the zone is told, free of API types.

use std::net::IpAddr;

/// A Service's name in lower case.
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

/// How a Service is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// By its cluster addresses.
    Cluster {
        /// Addresses of both families.
        ips: Vec<IpAddr>,
        /// Ports.
        ports: Vec<Port>,
    },
    /// By its endpoints.
    Headless,
    /// By another name.
    External(String),
}

/// A port of a Service or slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Name, empty for the only one.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// Number.
    pub port: u16,
}

/// A ready endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// Host name; from the address when empty.
    pub hostname: String,
}

impl Endpoint {
    /// The label under which the endpoint is found below its Service.
    pub fn label(&self) -> String {
        if self.hostname.is_empty() {
            self.ip.to_string().replace(['.', ':'], "-")
        } else {
            self.hostname.to_lowercase()
        }
    }
}

/// An EndpointSlice's ready endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Whose endpoints.
    pub service: ServiceName,
    /// Ports.
    pub ports: Vec<Port>,
    /// Ready endpoints, or all for a Service that publishes those that are not.
    pub endpoints: Vec<Endpoint>,
}
