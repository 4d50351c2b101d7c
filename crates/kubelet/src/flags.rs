//! The command line of `kubelet`: upstream's flag names, and the file of `--config`. Flags win over the file.

mod file;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::config::Config;
use crate::k8s::core::Taint;

/// Why the command line or the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file is not what it should be.
    #[error("configuration file {}: {message}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A flag's value cannot be used.
    #[error("invalid argument {value:?} for \"--{flag}\": {message}")]
    Value {
        /// Which flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        message: String,
    },
    /// A certificate of our own could not be made.
    #[error("make a serving certificate")]
    Certificate(#[source] pki::Error),
}

/// What the command line says besides the settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// Settings.
    pub config: Config,
    /// `--kubeconfig`; `None` is standalone.
    pub kubeconfig: Option<PathBuf>,
    /// `--container-runtime-endpoint`; empty for the built-in runtime.
    pub runtime_endpoint: String,
    /// `--image-service-endpoint`; empty for the same as the runtime's.
    pub image_endpoint: String,
    /// `-v`.
    pub verbosity: u8,
}

/// The kubelet is the primary "node agent" that runs on each node.
#[derive(Debug, Default, Parser)]
#[command(name = "kubelet", display_name = "Kubernetes", version = "v1.36.0", next_line_help = true)]
pub struct Flags {
    /// The Kubelet will load its initial configuration from this file.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Path to a kubeconfig file, specifying how to connect to the API server. Omitting it enables standalone mode.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// If non-empty, will use this string as identification instead of the actual hostname.
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// IP address (or comma-separated dual-stack pair) of the node.
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels to add when registering the node in the cluster, key=value pairs separated by ','.
    #[arg(long)]
    pub node_labels: Option<String>,
    /// Register the node with the apiserver.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub register_node: Option<bool>,
    /// Register the node with the given list of taints (comma separated "<key>=<value>:<effect>").
    #[arg(long)]
    pub register_with_taints: Option<String>,
    /// Register the node as schedulable.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub register_schedulable: Option<bool>,
    /// Directory path for managing kubelet files.
    #[arg(long)]
    pub root_dir: Option<PathBuf>,
    /// The directory where the TLS certs are located; used for a self-signed pair when none is given.
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    /// The endpoint of container runtime service; without it the built-in runtime is used.
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
    /// The endpoint of container image service.
    #[arg(long)]
    pub image_service_endpoint: Option<String>,
    /// Path to the directory containing static pod files to run, or the path to a single static pod file.
    #[arg(long)]
    pub pod_manifest_path: Option<PathBuf>,
    /// The IP address for the Kubelet to serve on.
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// The port for the Kubelet to serve on.
    #[arg(long)]
    pub port: Option<u16>,
    /// The read-only port for the Kubelet to serve on with no authentication/authorization (0 to disable).
    #[arg(long)]
    pub read_only_port: Option<u16>,
    /// The port of the localhost healthz endpoint (0 to disable).
    #[arg(long)]
    pub healthz_port: Option<u16>,
    /// Enables anonymous requests to the Kubelet server.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    /// Use the TokenReview API to determine authentication for bearer tokens.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub authentication_token_webhook: Option<bool>,
    /// Authorization mode for Kubelet server. Valid options are AlwaysAllow or Webhook.
    #[arg(long)]
    pub authorization_mode: Option<String>,
    /// Any request presenting a client certificate signed by one of these authorities is authenticated.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// File containing x509 Certificate used for serving HTTPS.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// File containing x509 private key matching --tls-cert-file.
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Comma-separated list of DNS server IP address.
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<String>,
    /// Domain for this cluster.
    #[arg(long)]
    pub cluster_domain: Option<String>,
    /// Resolver configuration file used as the basis for the container DNS resolution configuration.
    #[arg(long)]
    pub resolv_conf: Option<PathBuf>,
    /// Number of Pods that can run on this Kubelet.
    #[arg(long)]
    pub max_pods: Option<u32>,
    /// The CIDR to use for pod IP addresses, only used in standalone mode.
    #[arg(long)]
    pub pod_cidr: Option<String>,
    /// Unique identifier for identifying the node in a machine database.
    #[arg(long)]
    pub provider_id: Option<String>,
    /// Optional root cgroup to use for pods.
    #[arg(long)]
    pub cgroup_root: Option<String>,
    /// Enable the use of RuntimeDefault as the default seccomp profile for all workloads.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub seccomp_default: Option<bool>,
    /// Comma-separated whitelist of unsafe sysctls or unsafe sysctl patterns (ending in *).
    #[arg(long, value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// A set of ResourceName=ResourceQuantity pairs reserved for kubernetes system components.
    #[arg(long)]
    pub kube_reserved: Option<String>,
    /// A set of ResourceName=ResourceQuantity pairs reserved for non-kubernetes components.
    #[arg(long)]
    pub system_reserved: Option<String>,
    /// Specifies how often kubelet posts node status to master.
    #[arg(long)]
    pub node_status_update_frequency: Option<String>,
    /// Set the maximum size (e.g. 10Mi) of container log file before it is rotated.
    #[arg(long)]
    pub container_log_max_size: Option<String>,
    /// Set the maximum number of container log files that can be present for a container.
    #[arg(long)]
    pub container_log_max_files: Option<usize>,
    /// The percent of disk usage after which image garbage collection is always run.
    #[arg(long)]
    pub image_gc_high_threshold: Option<u8>,
    /// The percent of disk usage before which image garbage collection is never run.
    #[arg(long)]
    pub image_gc_low_threshold: Option<u8>,
    /// Makes the Kubelet fail to start if swap is enabled on the node.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub fail_swap_on: Option<bool>,
    /// A set of key=value pairs that describe feature gates for alpha/experimental features.
    #[arg(long)]
    pub feature_gates: Option<String>,
    /// Number for the log level verbosity.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
}

impl Flags {
    /// The settings: defaults, then the file, then the flags.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn options(self) -> Result<Options, Error> {
        let hostname = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        let name = self.hostname_override.clone().unwrap_or(hostname).trim().to_lowercase();
        let mut options = Options {
            config: Config::new(&name),
            kubeconfig: self.kubeconfig.clone(),
            runtime_endpoint: String::new(),
            image_endpoint: String::new(),
            verbosity: self.verbosity,
        };
        // Started bare, upstream's kubelet lets anyone in on its port; with a file, upstream's file defaults hold.
        let auth = &mut options.config.server.auth;
        (auth.anonymous, auth.webhook_authentication, auth.webhook_authorization) = (true, false, false);
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            file::apply(&text, path, &mut options)?;
        }
        self.apply(&mut options)?;
        certificate(&mut options.config, self.cert_dir.as_deref())?;
        Ok(options)
    }

    fn apply(&self, options: &mut Options) -> Result<(), Error> {
        fn set<T: Clone>(to: &mut T, from: Option<&T>) {
            from.cloned().into_iter().for_each(|value| *to = value);
        }
        set(&mut options.runtime_endpoint, self.container_runtime_endpoint.as_ref());
        set(&mut options.image_endpoint, self.image_service_endpoint.as_ref());
        let c = &mut options.config;
        set(&mut c.register_node, self.register_node.as_ref());
        set(&mut c.root_dir, self.root_dir.as_ref());
        set(&mut c.server.address, self.address.as_ref());
        set(&mut c.server.port, self.port.as_ref());
        set(&mut c.server.read_only_port, self.read_only_port.as_ref());
        set(&mut c.server.healthz_port, self.healthz_port.as_ref());
        set(&mut c.server.auth.anonymous, self.anonymous_auth.as_ref());
        set(&mut c.server.auth.webhook_authentication, self.authentication_token_webhook.as_ref());
        set(&mut c.cluster_domain, self.cluster_domain.as_ref());
        set(&mut c.resolv_conf, self.resolv_conf.as_ref());
        set(&mut c.max_pods, self.max_pods.as_ref());
        set(&mut c.pod_cidr, self.pod_cidr.as_ref());
        set(&mut c.provider_id, self.provider_id.as_ref());
        set(&mut c.cgroup_root, self.cgroup_root.as_ref());
        set(&mut c.seccomp_default, self.seccomp_default.as_ref());
        set(&mut c.log_max_files, self.container_log_max_files.as_ref());
        set(&mut c.image_gc_high, self.image_gc_high_threshold.as_ref());
        set(&mut c.image_gc_low, self.image_gc_low_threshold.as_ref());
        if let Some(path) = &self.pod_manifest_path {
            c.static_pod_path = Some(path.clone());
        }
        if !self.node_ip.is_empty() {
            c.node_ips.clone_from(&self.node_ip);
        }
        if !self.cluster_dns.is_empty() {
            c.cluster_dns.clone_from(&self.cluster_dns);
        }
        if !self.allowed_unsafe_sysctls.is_empty() {
            c.allowed_unsafe_sysctls.clone_from(&self.allowed_unsafe_sysctls);
        }
        c.unschedulable = self.register_schedulable == Some(false);
        self.apply_parsed(options)
    }

    fn apply_parsed(&self, options: &mut Options) -> Result<(), Error> {
        let c = &mut options.config;
        if let Some(mode) = &self.authorization_mode {
            c.server.auth.webhook_authorization = authorization(mode)?;
        }
        if let Some(text) = &self.node_labels {
            c.node_labels.extend(pairs("node-labels", text)?);
        }
        if let Some(text) = &self.register_with_taints {
            c.taints = text.split(',').filter(|t| !t.is_empty()).map(taint).collect::<Result<_, _>>()?;
        }
        for (flag, text) in [("kube-reserved", &self.kube_reserved), ("system-reserved", &self.system_reserved)] {
            if let Some(text) = text {
                reserve(&mut c.reserved, pairs(flag, text)?);
            }
        }
        if let Some(text) = &self.node_status_update_frequency {
            c.status_frequency = duration("node-status-update-frequency", text)?;
        }
        if let Some(text) = &self.container_log_max_size {
            c.log_max_size = bytes("container-log-max-size", text)?;
        }
        for (path, to) in [
            (&self.client_ca_file, &mut c.server.client_ca),
            (&self.tls_cert_file, &mut c.server.certificate),
            (&self.tls_private_key_file, &mut c.server.key),
        ] {
            if let Some(path) = path {
                *to = std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })?;
            }
        }
        if let Some(gates) = &self.feature_gates {
            // What a gate would change is not switchable here; upstream's defaults hold.
            tracing::warn!(gates, "feature gates of the kubelet cannot be changed; upstream's defaults hold");
        }
        Ok(())
    }
}

/// Without a certificate the kubelet makes its own, as upstream's does.
fn certificate(config: &mut Config, dir: Option<&std::path::Path>) -> Result<(), Error> {
    if !config.server.certificate.is_empty() || config.server.port == 0 {
        return Ok(());
    }
    let dir = dir.map_or_else(|| config.root_dir.join("pki"), std::path::Path::to_path_buf);
    let base = dir.join("kubelet");
    let ca = pki::files::load_or_create_ca(&base, &format!("{}-ca", config.node_name)).map_err(Error::Certificate)?;
    let mut sans = vec![pki::San::Dns(config.node_name.clone())];
    sans.extend(crate::node::machine::addresses(config).into_iter().map(pki::San::Ip));
    let life = Duration::from_secs(365 * 24 * 3600);
    let subject = pki::Subject::new(&config.node_name, &[]);
    let pair = ca.issue(&subject, &sans, pki::Usage::SERVER, life).map_err(Error::Certificate)?;
    config.server.certificate = pair.cert_pem().into_bytes();
    config.server.key = pair.key_pem().into_bytes();
    Ok(())
}

fn invalid(flag: &'static str, value: &str, message: impl Into<String>) -> Error {
    Error::Value { flag, value: value.to_owned(), message: message.into() }
}

fn authorization(mode: &str) -> Result<bool, Error> {
    match mode {
        "Webhook" => Ok(true),
        "AlwaysAllow" => Ok(false),
        other => Err(invalid("authorization-mode", other, "must be AlwaysAllow or Webhook")),
    }
}

fn pairs(flag: &'static str, text: &str) -> Result<BTreeMap<String, String>, Error> {
    let split = |pair: &str| pair.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()));
    let parts = text.split(',').filter(|p| !p.trim().is_empty());
    parts.map(|p| split(p).ok_or_else(|| invalid(flag, text, "must be key=value pairs"))).collect()
}

fn reserve(all: &mut BTreeMap<String, String>, more: BTreeMap<String, String>) {
    use crate::k8s::Quantity;
    for (name, text) in more {
        let sum = match all.get(&name) {
            Some(before) => {
                let read = |t: &String| volumes::quantity::parse(&Quantity(t.clone()));
                format!("{}m", read(before).milli_value() + read(&text).milli_value())
            }
            None => text,
        };
        all.insert(name, sum);
    }
}

fn taint(text: &str) -> Result<Taint, Error> {
    let bad = || invalid("register-with-taints", text, "must be <key>=<value>:<effect>");
    let (pair, effect) = text.rsplit_once(':').ok_or_else(bad)?;
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") || key.is_empty() {
        return Err(bad());
    }
    let value = Some(value.to_owned()).filter(|v| !v.is_empty());
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

/// A duration as Go writes it: `1h2m3.5s`, `100ms`.
fn duration(flag: &'static str, text: &str) -> Result<Duration, Error> {
    let bad = || invalid(flag, text, "must be a duration such as 10s");
    let (mut rest, mut total) = (text, 0f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return Err(bad()),
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| bad())
}

fn bytes(flag: &'static str, text: &str) -> Result<u64, Error> {
    let quantity: meta::quantity::Quantity = text.parse().map_err(|_| invalid(flag, text, "must be a quantity"))?;
    u64::try_from(quantity.value()).map_err(|_| invalid(flag, text, "must not be negative"))
}

#[cfg(test)]
mod tests;
