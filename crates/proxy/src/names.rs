//! Names of chains and sets, as kube-proxy gives them: eight characters of a hash, then the words, cut at 240 bytes.

use crate::model::ServiceName;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use sys::nft::Proto;

const MAX: usize = 240;

fn base32(bytes: &[u8], chars: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bit = |i: usize| (bytes[i / 8] >> (7 - i % 8)) & 1;
    (0..chars).map(|c| char::from(ALPHABET[(0..5).fold(0, |n, b| (n << 1) | usize::from(bit(c * 5 + b)))])).collect()
}

fn hashed(words: &str) -> String {
    let mut name = format!("{}-{words}", base32(&Sha256::digest(words), 8));
    if name.len() > MAX {
        name.truncate(MAX - 3);
        name.push_str("...");
    }
    name
}

/// Names of one service port.
#[derive(Debug, Clone)]
pub struct PortNames {
    words: String,
    base: String,
}

impl PortNames {
    /// For a port of a Service.
    pub fn new(service: &ServiceName, proto: Proto, port: &str) -> Self {
        let words = format!("{}/{}/{}/{port}", service.namespace, service.name, proto.name());
        Self { base: hashed(&words), words }
    }

    /// Endpoints for policy Cluster.
    pub fn cluster(&self) -> String {
        format!("service-{}", self.base)
    }

    /// Endpoints for policy Local.
    pub fn local(&self) -> String {
        format!("local-{}", self.base)
    }

    /// Traffic from outside.
    pub fn external(&self) -> String {
        format!("external-{}", self.base)
    }

    /// Source ranges.
    pub fn firewall(&self) -> String {
        format!("firewall-{}", self.base)
    }

    fn endpoint_base(&self, endpoint: &SocketAddr) -> String {
        let ip = endpoint.ip().to_string().replace(':', ".");
        hashed(&format!("{}__{ip}/{}", self.words, endpoint.port()))
    }

    /// One endpoint, with session affinity.
    pub fn endpoint(&self, endpoint: &SocketAddr) -> String {
        format!("endpoint-{}", self.endpoint_base(endpoint))
    }

    /// An endpoint's clients.
    pub fn affinity(&self, endpoint: &SocketAddr) -> String {
        format!("affinity-{}", self.endpoint_base(endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_upstream_documents_them() {
        let names = PortNames::new(&ServiceName::new("ns1", "svc1"), Proto::Tcp, "p80");
        assert_eq!(names.cluster(), "service-ULMVA6XW-ns1/svc1/tcp/p80");
        assert_eq!(
            names.endpoint(&"10.180.0.1:80".parse().unwrap()),
            "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80"
        );
        assert!(!names.affinity(&"[fd00::1]:80".parse().unwrap()).contains(':'));
    }
}
