//! What the processes of a cluster are told: JSON files, so that a restart needs no arguments.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// The addresses of a cluster; all follow from its slot, so that clusters side by side are disjoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Slot, 0 to 15.
    pub slot: u8,
    /// The bridge's name.
    pub bridge: String,
    /// The bridge's address with the nodes' subnet.
    pub gateway: IpNet,
    /// The pod network.
    pub pods: IpNet,
    /// The Service network.
    pub services: IpNet,
    /// The API server's port on the bridge address.
    pub api_port: u16,
}

fn net(octets: [u8; 4], length: u8) -> IpNet {
    // Lengths here are constants below 32.
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(octets), length))
}

impl Addresses {
    /// The addresses of a slot.
    pub fn of_slot(slot: u8) -> Self {
        Self {
            slot,
            bridge: format!("corten{slot}"),
            gateway: net([10, 48 + slot, 0, 1], 24),
            pods: net([10, 64 + slot, 0, 0], 16),
            services: net([10, 96 + slot, 0, 0], 16),
            api_port: 6443,
        }
    }

    /// The address of the n-th node, counted from 1.
    pub fn node(&self, number: u8) -> IpNet {
        net([10, 48 + self.slot, 0, 10 + number], 24)
    }

    /// The `kubernetes` Service's address.
    pub fn kubernetes_service(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 96 + self.slot, 0, 1))
    }

    /// The DNS Service's address.
    pub fn dns_service(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 96 + self.slot, 0, 10))
    }

    /// The API server's URL.
    pub fn api_url(&self) -> String {
        format!("https://{}:{}", self.gateway.addr(), self.api_port)
    }
}

/// What the control-plane process is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlaneSpec {
    /// The cluster's name.
    pub name: String,
    /// The cluster's folder.
    pub data: PathBuf,
    /// Addresses.
    pub addresses: Addresses,
    /// `--feature-gates` of API server, controllers and scheduler.
    #[serde(default)]
    pub feature_gates: Vec<String>,
    /// `--runtime-config` of the API server.
    #[serde(default)]
    pub runtime_config: Vec<String>,
}

/// What a node's processes are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's folder.
    pub data: PathBuf,
    /// The node's name.
    pub name: String,
    /// Its address.
    pub address: IpNet,
    /// Addresses of the cluster.
    pub addresses: Addresses,
}
