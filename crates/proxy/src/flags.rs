//! kube-proxy's command line and configuration file.

use crate::engine::Error;
use crate::kernel::Conntrack;
use crate::run::{Config, DetectLocal, NodePortAddresses};
use clap::Parser;
use client::{Client, Kubeconfig};
use ipnet::IpNet;
use rt::Shutdown;
use serde::Deserialize;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The flags of kube-proxy that have a meaning in nftables mode.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "kube-proxy",
    display_name = "Kubernetes",
    version = "v1.36.0",
    next_line_help = true,
    about = "The Kubernetes network proxy runs on each node and sends Service traffic to endpoints."
)]
pub struct Flags {
    /// Address of the API server; overrides the kubeconfig's.
    #[arg(long)]
    pub master: Option<String>,
    /// Kubeconfig file.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Configuration file (kubeproxy.config.k8s.io/v1alpha1); its values take the place of most flags.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Which proxy to use: only nftables.
    #[arg(long, default_value = "nftables")]
    pub proxy_mode: String,
    /// Remove the proxy's rules and exit.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", action = clap::ArgAction::Set)]
    pub cleanup: bool,
    /// Name of this node; the host's when unset.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The pods' address ranges in the cluster, comma-separated, one per family.
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// How to tell local traffic: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.
    #[arg(long)]
    pub detect_local_mode: Option<String>,
    /// The bridge for BridgeInterface.
    #[arg(long)]
    pub pod_bridge_interface: Option<String>,
    /// The prefix for InterfaceNamePrefix.
    #[arg(long)]
    pub pod_interface_name_prefix: Option<String>,
    /// Address that overrides the node's for choosing the primary one.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Prefixes of addresses that accept NodePort traffic, or `primary`.
    #[arg(long, value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// Masquerade all traffic to ClusterIPs.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", action = clap::ArgAction::Set)]
    pub masquerade_all: bool,
    /// Bit of the packet mark for masquerading.
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u32).range(0..=31))]
    pub iptables_masquerade_bit: u32,
    /// NodePorts on 127.0.0.1.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", action = clap::ArgAction::Set)]
    pub iptables_localhost_nodeports: bool,
    /// Least time between syncs, for example 1s.
    #[arg(long, value_parser = duration, default_value = "0s")]
    pub iptables_min_sync_period: Duration,
    /// Longest time that a change may wait, for example 30s.
    #[arg(long, value_parser = duration, default_value = "30s")]
    pub iptables_sync_period: Duration,
    /// Address and port of the health check server; empty for none.
    #[arg(long, default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: String,
    /// Address and port of the metrics server; empty for none.
    #[arg(long, default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: String,
    /// Exit when one of the two cannot be bound.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", action = clap::ArgAction::Set)]
    pub bind_address_hard_fail: bool,
    /// Conntrack entries per processor; 0 leaves the system's value.
    #[arg(long, default_value_t = 32_768)]
    pub conntrack_max_per_core: u32,
    /// Conntrack entries at least.
    #[arg(long, default_value_t = 131_072)]
    pub conntrack_min: u32,
    /// Idle time of established TCP connections; 0 leaves the system's value.
    #[arg(long, value_parser = duration, default_value = "24h")]
    pub conntrack_tcp_timeout_established: Duration,
    /// Time of TCP connections in CLOSE_WAIT; 0 leaves the system's value.
    #[arg(long, value_parser = duration, default_value = "1h")]
    pub conntrack_tcp_timeout_close_wait: Duration,
    /// Take TCP packets out of the window as part of their connection.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", action = clap::ArgAction::Set)]
    pub conntrack_tcp_be_liberal: bool,
    /// Idle time of unanswered UDP flows; 0 leaves the system's value.
    #[arg(long, value_parser = duration, default_value = "0s")]
    pub conntrack_udp_timeout: Duration,
    /// Idle time of answered UDP flows; 0 leaves the system's value.
    #[arg(long, value_parser = duration, default_value = "0s")]
    pub conntrack_udp_timeout_stream: Duration,
    /// The process's OOM score.
    #[arg(long, default_value_t = -999, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub oom_score_adj: i32,
    /// Set the kernel's values, which needs privileges, and exit.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", action = clap::ArgAction::Set)]
    pub init_only: bool,
    /// Write the configuration in force to this file and exit.
    #[arg(long)]
    pub write_config_to: Option<PathBuf>,
    /// Log verbosity.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
}

/// Go's durations as far as flags use them: `1s`, `500ms`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("invalid duration \"{text}\"");
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)
            .or_else(|e| if rest == "0" { Ok(1) } else { Err(e) })?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        total += number
            * match &rest[digits..unit_end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                "" if text == "0" => 0.0,
                _ => return Err(bad()),
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| bad())
}

/// The configuration file, as far as nftables mode reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    api_version: String,
    kind: String,
    mode: String,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: String,
    hostname_override: String,
    bind_address_hard_fail: bool,
    healthz_bind_address: Option<String>,
    metrics_bind_address: Option<String>,
    node_port_addresses: Vec<String>,
    detect_local_mode: String,
    detect_local: FileDetect,
    client_connection: FileClient,
    nftables: FileNft,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FileDetect {
    bridge_interface: String,
    interface_name_prefix: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FileClient {
    kubeconfig: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FileNft {
    masquerade_all: bool,
    masquerade_bit: Option<u32>,
    min_sync_period: String,
    sync_period: String,
}

impl Flags {
    /// Takes values from the configuration file, if there is one, over those of the flags.
    ///
    /// # Errors
    /// When the file cannot be read or is not a proxy configuration.
    pub fn with_file(mut self) -> Result<Self, Error> {
        let Some(path) = self.config.clone() else { return Ok(self) };
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Error::Config(format!("failed to load config {}: {e}", path.display())))?;
        let file: File = serde_yaml_ng::from_str(&text)
            .map_err(|e| Error::Config(format!("failed to load config {}: {e}", path.display())))?;
        if file.kind != "KubeProxyConfiguration" || file.api_version != "kubeproxy.config.k8s.io/v1alpha1" {
            return Err(Error::Config(format!(
                "no kind \"{}\" is registered for version \"{}\"",
                file.kind, file.api_version
            )));
        }
        let set = |to: &mut String, from: String| {
            if !from.is_empty() {
                *to = from
            }
        };
        let some = |to: &mut Option<String>, from: String| {
            if !from.is_empty() {
                *to = Some(from)
            }
        };
        set(&mut self.proxy_mode, file.mode);
        self.cluster_cidr = list(&file.cluster_cidr, "clusterCIDR")?;
        some(&mut self.hostname_override, file.hostname_override);
        some(&mut self.detect_local_mode, file.detect_local_mode);
        some(&mut self.pod_bridge_interface, file.detect_local.bridge_interface);
        some(&mut self.pod_interface_name_prefix, file.detect_local.interface_name_prefix);
        self.bind_address_hard_fail = file.bind_address_hard_fail;
        self.healthz_bind_address = file.healthz_bind_address.unwrap_or(self.healthz_bind_address);
        self.metrics_bind_address = file.metrics_bind_address.unwrap_or(self.metrics_bind_address);
        self.nodeport_addresses = file.node_port_addresses;
        self.masquerade_all = file.nftables.masquerade_all;
        self.iptables_masquerade_bit = file.nftables.masquerade_bit.unwrap_or(14).min(31);
        for (to, text) in [
            (&mut self.iptables_min_sync_period, file.nftables.min_sync_period),
            (&mut self.iptables_sync_period, file.nftables.sync_period),
        ] {
            if !text.is_empty() && text != "0s" {
                *to = duration(&text).map_err(Error::Config)?;
            }
        }
        if !file.client_connection.kubeconfig.is_empty() {
            self.kubeconfig = Some(file.client_connection.kubeconfig.into());
        }
        Ok(self)
    }

    /// The proxy's configuration.
    ///
    /// # Errors
    /// When a value is wrong or asks for what does not exist here.
    pub fn to_config(&self) -> Result<Config, Error> {
        if !matches!(self.proxy_mode.as_str(), "" | "nftables") {
            return Err(Error::Config(format!(
                "unsupported proxy mode \"{}\": only nftables is implemented",
                self.proxy_mode
            )));
        }
        let node_name = match &self.hostname_override {
            Some(name) if !name.trim().is_empty() => name.trim().to_lowercase(),
            _ => hostname()?,
        };
        let mut config = Config::new(node_name);
        config.masquerade_all = self.masquerade_all;
        config.masquerade_bit = self.iptables_masquerade_bit;
        config.localhost_node_ports = self.iptables_localhost_nodeports;
        config.min_sync_period = self.iptables_min_sync_period;
        config.sync_period = self.iptables_sync_period;
        config.bind_hard_fail = self.bind_address_hard_fail;
        config.healthz_address = address(&self.healthz_bind_address, 10256)?;
        config.metrics_address = address(&self.metrics_bind_address, 10249)?;
        if !self.bind_address.is_unspecified() {
            config.node_ips = vec![self.bind_address];
        }
        config.detect_local = self.detect_local()?;
        config.node_port_addresses = match self.nodeport_addresses.as_slice() {
            [] => NodePortAddresses::All,
            [one] if one == "primary" => NodePortAddresses::Primary,
            many => NodePortAddresses::Within(list(&many.join(","), "nodeport-addresses")?),
        };
        Ok(config)
    }

    fn detect_local(&self) -> Result<DetectLocal, Error> {
        let need = |value: &Option<String>, flag: &str| {
            value.clone().ok_or_else(|| Error::Config(format!("--{flag} is required by --detect-local-mode")))
        };
        match self.detect_local_mode.as_deref().unwrap_or("ClusterCIDR") {
            "ClusterCIDR" | "" if self.cluster_cidr.is_empty() => Ok(DetectLocal::None),
            "ClusterCIDR" | "" => Ok(DetectLocal::ClusterCidr(self.cluster_cidr.clone())),
            "NodeCIDR" => Ok(DetectLocal::NodeCidr),
            "BridgeInterface" => need(&self.pod_bridge_interface, "pod-bridge-interface").map(DetectLocal::Bridge),
            "InterfaceNamePrefix" => {
                need(&self.pod_interface_name_prefix, "pod-interface-name-prefix").map(DetectLocal::InterfacePrefix)
            }
            other => Err(Error::Config(format!("unknown detect local mode \"{other}\""))),
        }
    }

    /// A client for the API server: kubeconfig, `--master`, or a pod's own.
    ///
    /// # Errors
    /// When none is configured.
    pub fn client(&self) -> Result<Client, Error> {
        const AGENT: &str = "kube-proxy";
        match (&self.kubeconfig, &self.master) {
            (Some(path), master) => {
                let transport = Kubeconfig::load(path)?.transport(master.as_deref())?;
                Ok(Client::new(std::sync::Arc::new(transport), AGENT))
            }
            (None, Some(master)) => {
                let transport = client::HttpTransport::new(master, &client::TlsIdentity::default(), None)?;
                Ok(Client::new(std::sync::Arc::new(transport), AGENT))
            }
            (None, None) => {
                tracing::info!("neither --kubeconfig nor --master was given; using the pod's own configuration");
                Ok(client::in_cluster(AGENT)?)
            }
        }
    }
}

fn list(text: &str, what: &str) -> Result<Vec<IpNet>, Error> {
    text.split(',')
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .map(|t| t.parse().map_err(|_| Error::Config(format!("{what}: invalid CIDR \"{t}\""))))
        .collect()
}

/// `IP:port`, `IP` alone, or nothing.
fn address(text: &str, port: u16) -> Result<Option<SocketAddr>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let whole = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)));
    whole.map(Some).map_err(|_| Error::Config(format!("invalid address \"{text}\"")))
}

fn hostname() -> Result<String, Error> {
    let text =
        std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(|e| Error::Config(format!("hostname: {e}")))?;
    Ok(text.trim().to_lowercase())
}

impl Flags {
    /// The values of connection tracking.
    pub fn conntrack(&self) -> Conntrack {
        Conntrack {
            max_per_core: self.conntrack_max_per_core,
            min: self.conntrack_min,
            tcp_established: self.conntrack_tcp_timeout_established,
            tcp_close_wait: self.conntrack_tcp_timeout_close_wait,
            tcp_be_liberal: self.conntrack_tcp_be_liberal,
            udp: self.conntrack_udp_timeout,
            udp_stream: self.conntrack_udp_timeout_stream,
        }
    }

    /// The configuration in force as upstream's file.
    pub fn to_file(&self) -> serde_json::Value {
        let seconds = |d: Duration| format!("{}s", d.as_secs_f64());
        serde_json::json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "bindAddress": self.bind_address.to_string(),
            "bindAddressHardFail": self.bind_address_hard_fail,
            "clientConnection": { "kubeconfig": self.kubeconfig.as_ref().map(|p| p.display().to_string()).unwrap_or_default() },
            "clusterCIDR": self.cluster_cidr.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            "conntrack": {
                "maxPerCore": self.conntrack_max_per_core,
                "min": self.conntrack_min,
                "tcpBeLiberal": self.conntrack_tcp_be_liberal,
                "tcpCloseWaitTimeout": seconds(self.conntrack_tcp_timeout_close_wait),
                "tcpEstablishedTimeout": seconds(self.conntrack_tcp_timeout_established),
                "udpTimeout": seconds(self.conntrack_udp_timeout),
                "udpStreamTimeout": seconds(self.conntrack_udp_timeout_stream),
            },
            "detectLocal": {
                "bridgeInterface": self.pod_bridge_interface.clone().unwrap_or_default(),
                "interfaceNamePrefix": self.pod_interface_name_prefix.clone().unwrap_or_default(),
            },
            "detectLocalMode": self.detect_local_mode.clone().unwrap_or_else(|| "ClusterCIDR".into()),
            "healthzBindAddress": self.healthz_bind_address,
            "hostnameOverride": self.hostname_override.clone().unwrap_or_default(),
            "metricsBindAddress": self.metrics_bind_address,
            "nftables": {
                "masqueradeAll": self.masquerade_all,
                "masqueradeBit": self.iptables_masquerade_bit,
                "minSyncPeriod": seconds(self.iptables_min_sync_period),
                "syncPeriod": seconds(self.iptables_sync_period),
            },
            "nodePortAddresses": self.nodeport_addresses,
            "oomScoreAdj": self.oom_score_adj,
        })
    }

    fn write_file(&self, path: &std::path::Path) -> Result<(), Error> {
        let fail = |e: &dyn std::fmt::Display| Error::Config(format!("failed to write {}: {e}", path.display()));
        let text = serde_yaml_ng::to_string(&self.to_file()).map_err(|e| fail(&e))?;
        std::fs::write(path, text).map_err(|e| fail(&e))
    }
}

/// Runs the command until shutdown. `arguments` begin with the command's name. Gives the exit code.
pub async fn main(arguments: impl IntoIterator<Item = OsString>, shutdown: Shutdown) -> u8 {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to be done when standard error is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    telemetry::logs::init(telemetry::logs::Format::Text, flags.verbosity);
    match serve(flags, shutdown).await {
        Ok(()) => 0,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("error: {text}");
            1
        }
    }
}

async fn serve(flags: Flags, shutdown: Shutdown) -> Result<(), Error> {
    let flags = flags.with_file()?;
    if flags.cleanup {
        return crate::cleanup();
    }
    if let Some(path) = &flags.write_config_to {
        return flags.write_file(path);
    }
    let mut config = flags.to_config()?;
    config.configz = serde_json::json!({ "kubeproxy.config.k8s.io": flags.to_file() });
    flags.conntrack().apply();
    if flags.init_only {
        return Ok(());
    }
    crate::kernel::oom_score(flags.oom_score_adj);
    let client = flags.client()?;
    crate::run(config, client, shutdown).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_file() {
        let flags = Flags::parse_from([
            "kube-proxy",
            "--master",
            "http://localhost:8080",
            "--cluster-cidr=10.0.0.0/8,fd00::/48",
            "--masquerade-all",
            "--hostname-override=Node1",
        ]);
        let config = flags.to_config().unwrap();
        assert_eq!((config.node_name.as_str(), config.masquerade_all), ("node1", true));
        assert!(matches!(config.detect_local, DetectLocal::ClusterCidr(ref nets) if nets.len() == 2));
        assert!(Flags::try_parse_from(["kube-proxy", "--nonsense"]).is_err());
        let iptables = Flags::parse_from(["kube-proxy", "--proxy-mode=iptables"]);
        assert!(iptables.to_config().unwrap_err().to_string().contains("unsupported proxy mode"));

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nclusterCIDR: 10.1.0.0/16\nmetricsBindAddress: \"\"\nnftables: {syncPeriod: 1m30s}\n").unwrap();
        let flags = Flags::parse_from(["kube-proxy", "--config", path.to_str().unwrap(), "--hostname-override=n"])
            .with_file()
            .unwrap();
        let config = flags.to_config().unwrap();
        assert_eq!((config.sync_period, config.metrics_address), (Duration::from_secs(90), None));
        let written = dir.path().join("written");
        flags.write_file(&written).unwrap();
        let again = Flags::parse_from(["kube-proxy", "--config", written.to_str().unwrap()])
            .with_file()
            .unwrap()
            .to_config()
            .unwrap();
        assert_eq!((again.sync_period, again.detect_local), (config.sync_period, config.detect_local));
    }

    #[test]
    fn durations() {
        for (text, ms) in [("1s", 1000), ("500ms", 500), ("1m30s", 90_000), ("0", 0), ("0s", 0), ("1.5s", 1500)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert!(duration("5").is_err() && duration("x").is_err());
    }
}
