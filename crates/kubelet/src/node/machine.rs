//! The machine: what it has, and what it is.

use std::net::IpAddr;

use volumes::quantity::ResourceList;

use crate::config::Config;
use crate::k8s::Quantity;
use crate::k8s::core::NodeSystemInfo;

/// What the machine has.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// CPUs.
    pub cpus: i64,
    /// Memory, bytes.
    pub memory: i64,
    /// The file system of the kubelet's state, bytes.
    pub storage: i64,
}

impl Machine {
    /// Reads it, within what the configuration says.
    #[must_use]
    pub fn detect(config: &Config) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1));
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
        let kib: i64 = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0);
        let storage = rustix::fs::statvfs(&config.root_dir)
            .map_or(0, |s| i64::try_from(s.f_blocks * s.f_frsize).unwrap_or(i64::MAX));
        Self { cpus: config.cpus.unwrap_or(cpus), memory: config.memory.unwrap_or(kib * 1024), storage }
    }

    /// Everything.
    #[must_use]
    pub fn capacity(&self, config: &Config) -> ResourceList {
        let mut list = ResourceList::new();
        let mut put = |name: &str, text: String| list.insert(name.to_owned(), Quantity(text));
        put("cpu", self.cpus.to_string());
        put("memory", format!("{}Ki", self.memory / 1024));
        put("ephemeral-storage", format!("{}Ki", self.storage / 1024));
        put("pods", config.max_pods.to_string());
        put("hugepages-1Gi", "0".to_owned());
        put("hugepages-2Mi", "0".to_owned());
        list
    }

    /// What pods may use: capacity less what is reserved, less upstream's eviction thresholds (100 MiB of memory,
    /// a tenth of the disk).
    #[must_use]
    pub fn allocatable(&self, config: &Config) -> ResourceList {
        let reserved = |name: &str| {
            config.reserved.get(name).map_or(0, |t| volumes::quantity::parse(&Quantity(t.clone())).value())
        };
        let cpu =
            config.reserved.get("cpu").map_or(0, |t| volumes::quantity::parse(&Quantity(t.clone())).milli_value());
        let mut list = self.capacity(config);
        let mut put = |name: &str, text: String| list.insert(name.to_owned(), Quantity(text));
        let left = self.cpus * 1000 - cpu;
        put("cpu", if left % 1000 == 0 { (left / 1000).to_string() } else { format!("{left}m") });
        put("memory", format!("{}Ki", (self.memory - reserved("memory") - (100 << 20)).max(0) / 1024));
        put(
            "ephemeral-storage",
            ((self.storage - self.storage / 10 - reserved("ephemeral-storage")).max(0)).to_string(),
        );
        list
    }
}

/// Addresses of the node: those configured, or the one of the default route's interface.
#[must_use]
pub fn addresses(config: &Config) -> Vec<IpAddr> {
    if !config.node_ips.is_empty() {
        return config.node_ips.clone();
    }
    // Connecting a datagram socket sends nothing, and shows which address would be used.
    let probe = |local: &str, remote: &str| -> Option<IpAddr> {
        let socket = std::net::UdpSocket::bind(local).ok()?;
        socket.connect(remote).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
    };
    let found = probe("0.0.0.0:0", "192.0.2.1:9").or_else(|| probe("[::]:0", "[2001:db8::1]:9"));
    vec![found.unwrap_or(IpAddr::from([127, 0, 0, 1]))]
}

/// What the node says of itself.
#[must_use]
pub fn info(runtime_name: &str, runtime_version: &str) -> NodeSystemInfo {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"');
    let uname = rustix::system::uname();
    NodeSystemInfo {
        machine_id: read("/etc/machine-id"),
        system_uuid: Some(read("/sys/class/dmi/id/product_uuid"))
            .filter(|u| !u.is_empty())
            .unwrap_or_else(|| read("/etc/machine-id")),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        os_image: pretty.to_owned(),
        container_runtime_version: format!("{runtime_name}://{runtime_version}"),
        kubelet_version: "v1.36.0".to_owned(),
        kube_proxy_version: String::new(),
        operating_system: "linux".to_owned(),
        architecture: architecture().to_owned(),
        swap: None,
    }
}

/// Go's name of the architecture.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "riscv64" => "riscv64",
        other => other,
    }
}
