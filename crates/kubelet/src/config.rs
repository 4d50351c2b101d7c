//! The kubelet's settings, whatever they came from.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::k8s::core::Taint;

/// How requests to the server are authenticated.
#[derive(Debug, Clone, Default)]
pub struct ServerAuth {
    /// Let unauthenticated requests in as `system:anonymous`.
    pub anonymous: bool,
    /// Ask the API server about bearer tokens.
    pub webhook_authentication: bool,
    /// Ask the API server about what is allowed; otherwise everything is (`AlwaysAllow`).
    pub webhook_authorization: bool,
}

/// Where the server listens and with what identity.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address.
    pub address: IpAddr,
    /// Port; 0 for none.
    pub port: u16,
    /// Port of the plain health endpoint; 0 for none.
    pub healthz_port: u16,
    /// Port of the old read-only server; 0 for none.
    pub read_only_port: u16,
    /// Certificate chain, PEM; with the key, the server speaks TLS.
    pub certificate: Vec<u8>,
    /// Private key, PEM.
    pub key: Vec<u8>,
    /// CAs of client certificates, PEM; empty for none.
    pub client_ca: Vec<u8>,
    /// Who may do what.
    pub auth: ServerAuth,
}

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub node_name: String,
    /// The node's host name, for its addresses and label.
    pub hostname: String,
    /// State (`/var/lib/kubelet`).
    pub root_dir: PathBuf,
    /// Logs of pods (`/var/log/pods`).
    pub pod_logs_dir: PathBuf,
    /// Static pods; `None` for none.
    pub static_pod_path: Option<PathBuf>,
    /// Addresses of the node; empty to find them out.
    pub node_ips: Vec<IpAddr>,
    /// DNS servers of pods.
    pub cluster_dns: Vec<String>,
    /// Domain of the cluster.
    pub cluster_domain: String,
    /// The node's resolv.conf; empty for none.
    pub resolv_conf: PathBuf,
    /// Whether to make the Node object.
    pub register_node: bool,
    /// More labels for it.
    pub node_labels: BTreeMap<String, String>,
    /// Taints for it at registration.
    pub taints: Vec<Taint>,
    /// Register as unschedulable... as cordoned nodes are.
    pub unschedulable: bool,
    /// The provider's id.
    pub provider_id: String,
    /// How many pods fit.
    pub max_pods: u32,
    /// Pod CIDR where no API gives one (standalone).
    pub pod_cidr: String,
    /// Kept back for the system, by resource.
    pub reserved: BTreeMap<String, String>,
    /// CPUs to report; `None` for the machine's.
    pub cpus: Option<i64>,
    /// Memory to report, bytes; `None` for the machine's.
    pub memory: Option<i64>,
    /// The cgroup below which `kubepods` is.
    pub cgroup_root: String,
    /// Whether to make cgroups for pods and their classes.
    pub manage_cgroups: bool,
    /// Seccomp's runtime default for containers without a profile.
    pub seccomp_default: bool,
    /// Sysctls allowed beyond the safe ones; `*` at the end matches.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Lease's life.
    pub lease_duration: Duration,
    /// How often the node's status is looked at.
    pub status_frequency: Duration,
    /// How often it is told at least.
    pub status_report: Duration,
    /// Longest crash-loop delay.
    pub max_container_restart_period: Duration,
    /// Size at which a log is rotated.
    pub log_max_size: u64,
    /// How many log files stay.
    pub log_max_files: usize,
    /// How many pods may have their sandbox made at a time.
    pub parallel_starts: usize,
    /// Unused images older than this may go; zero for no limit.
    pub image_maximum_age: Duration,
    /// The disk's use in percent above which images go.
    pub image_gc_high: u8,
    /// The use in percent down to which they go.
    pub image_gc_low: u8,
    /// The server.
    pub server: ServerConfig,
}

impl Config {
    /// Upstream's defaults for a node of this name.
    #[must_use]
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.to_owned(),
            hostname: node_name.to_owned(),
            root_dir: "/var/lib/kubelet".into(),
            pod_logs_dir: "/var/log/pods".into(),
            static_pod_path: None,
            node_ips: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            register_node: true,
            node_labels: BTreeMap::new(),
            taints: Vec::new(),
            unschedulable: false,
            provider_id: String::new(),
            max_pods: 110,
            pod_cidr: String::new(),
            reserved: BTreeMap::new(),
            cpus: None,
            memory: None,
            cgroup_root: String::new(),
            manage_cgroups: true,
            seccomp_default: false,
            allowed_unsafe_sysctls: Vec::new(),
            lease_duration: Duration::from_secs(40),
            status_frequency: Duration::from_secs(10),
            status_report: Duration::from_secs(300),
            max_container_restart_period: Duration::from_secs(300),
            log_max_size: 10 << 20,
            log_max_files: 5,
            parallel_starts: 8,
            image_maximum_age: Duration::ZERO,
            image_gc_high: 85,
            image_gc_low: 80,
            server: ServerConfig {
                address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                port: 10250,
                healthz_port: 10248,
                read_only_port: 0,
                certificate: Vec::new(),
                key: Vec::new(),
                client_ca: Vec::new(),
                auth: ServerAuth { anonymous: false, webhook_authentication: true, webhook_authorization: true },
            },
        }
    }

    /// `<root>/pods`.
    #[must_use]
    pub fn pods_dir(&self) -> PathBuf {
        self.root_dir.join("pods")
    }
}
