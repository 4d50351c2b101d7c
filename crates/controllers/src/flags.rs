//! The command line of `kube-controller-manager`: upstream's flags, as far as they have a meaning here. Any other is
//! an error.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};

use crate::frame::Options;

/// The Kubernetes controller manager watches the state of the cluster and moves it towards the state that is wanted.
#[derive(Debug, Clone, Parser)]
#[command(name = "kube-controller-manager", display_name = "Kubernetes", version = "v1.36.0", next_line_help = true)]
pub struct Flags {
    /// The address of the Kubernetes API server (overrides any value in kubeconfig).
    #[arg(long)]
    pub master: Option<String>,
    /// Path to kubeconfig file with authorization and master location information.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// A list of controllers to enable: '*' for those on by default, 'foo' enables, '-foo' disables.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, default_value = "*")]
    pub controllers: Vec<String>,
    /// Start a leader election client and gain leadership before executing the main loop.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", action = ArgAction::Set)]
    pub leader_elect: bool,
    /// How long non-leader candidates wait after a leadership renewal before they try to take the lead.
    #[arg(long, value_parser = duration, default_value = "15s")]
    pub leader_elect_lease_duration: Duration,
    /// How long the leader tries to renew before it stops leading.
    #[arg(long, value_parser = duration, default_value = "10s")]
    pub leader_elect_renew_deadline: Duration,
    /// How long clients wait between tries to lead.
    #[arg(long, value_parser = duration, default_value = "2s")]
    pub leader_elect_retry_period: Duration,
    /// The name of the lease.
    #[arg(long, default_value = "kube-controller-manager")]
    pub leader_elect_resource_name: String,
    /// The namespace of the lease.
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    /// The kind of the lock; only leases.
    #[arg(long, default_value = "leases", value_parser = ["leases"])]
    pub leader_elect_resource_lock: String,
    /// CIDR ranges for pods in the cluster, comma-separated, one per family.
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<String>,
    /// Should CIDRs for pods be allocated and set on the nodes.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", action = ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    /// Mask size for a node's range.
    #[arg(long)]
    pub node_cidr_mask_size: Option<u8>,
    /// Mask size for a node's IPv4 range in dual-stack clusters.
    #[arg(long)]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// Mask size for a node's IPv6 range in dual-stack clusters.
    #[arg(long)]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// File with the private RSA or ECDSA key that signs service account tokens.
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    /// File with the root certificate authority that goes into service accounts' token secrets and namespaces.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// File with a PEM certificate authority that signs certificates of the cluster.
    #[arg(long)]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// File with its private key.
    #[arg(long)]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// The longest life of signed certificates.
    #[arg(long, value_parser = duration, default_value = "8760h")]
    pub cluster_signing_duration: Duration,
    /// Run each controller under its own service account's credentials.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", action = ArgAction::Set)]
    pub use_service_account_credentials: bool,
    /// How long a node may be silent before it is marked unhealthy.
    #[arg(long, value_parser = duration, default_value = "50s")]
    pub node_monitor_grace_period: Duration,
    /// How often the state of nodes is looked at.
    #[arg(long, value_parser = duration, default_value = "5s")]
    pub node_monitor_period: Duration,
    /// Nodes per second from which pods are evicted when a zone is healthy.
    #[arg(long, default_value_t = 0.1)]
    pub node_eviction_rate: f32,
    /// Nodes per second from which pods are evicted when a zone is unhealthy.
    #[arg(long, default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f32,
    /// Share of nodes that must be not ready for a zone to count as unhealthy.
    #[arg(long, default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f32,
    /// Size from which a zone counts as large for evictions.
    #[arg(long, default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
    /// How many ended pods are kept; 0 or less for no limit.
    #[arg(long, default_value_t = 12_500, allow_hyphen_values = true)]
    pub terminated_pod_gc_threshold: i32,
    /// Deployments that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    /// Replica sets that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    /// Replication controllers that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_rc_syncs: usize,
    /// Stateful sets that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_statefulset_syncs: usize,
    /// Daemon sets that are worked on at the same time.
    #[arg(long, default_value_t = 2)]
    pub concurrent_daemonset_syncs: usize,
    /// Jobs that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_job_syncs: usize,
    /// Cron jobs that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_cron_job_syncs: usize,
    /// Endpoints that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    /// Services whose slices are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    /// Namespaces that are worked on at the same time.
    #[arg(long, default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    /// Workers of the garbage collector.
    #[arg(long, default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    /// Quotas that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_resource_quota_syncs: usize,
    /// Service account tokens that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_serviceaccount_token_syncs: usize,
    /// Jobs for clean-up that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_ttl_after_finished_syncs: usize,
    /// Ephemeral volumes that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_ephemeralvolume_syncs: usize,
    /// Autoscalers that are worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_horizontal_pod_autoscaler_syncs: usize,
    /// How often each autoscaler is looked at.
    #[arg(long, value_parser = duration, default_value = "15s")]
    pub horizontal_pod_autoscaler_sync_period: Duration,
    /// For how long a recommendation holds a target up.
    #[arg(long, value_parser = duration, default_value = "5m")]
    pub horizontal_pod_autoscaler_downscale_stabilization: Duration,
    /// How far from its target a metric may be before anything is done.
    #[arg(long, default_value_t = 0.1)]
    pub horizontal_pod_autoscaler_tolerance: f64,
    /// For how long after its start a pod's CPU readings are doubted.
    #[arg(long, value_parser = duration, default_value = "5m")]
    pub horizontal_pod_autoscaler_cpu_initialization_period: Duration,
    /// For how long after its start a pod counts as never having been ready.
    #[arg(long, value_parser = duration, default_value = "30s")]
    pub horizontal_pod_autoscaler_initial_readiness_delay: Duration,
    /// How long a legacy service account token must be unused before it is cleaned up.
    #[arg(long, value_parser = duration, default_value = "8760h")]
    pub legacy_service_account_token_clean_up_period: Duration,
    /// The port for health checks and metrics over TLS; 0 for none.
    #[arg(long, default_value_t = 10_257)]
    pub secure_port: u16,
    /// The address of the secure port.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// File with the certificate of the secure port; without it one is made at each start.
    #[arg(long, requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// File with its private key.
    #[arg(long, requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Paths that anybody may ask for on the secure port.
    #[arg(long, value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub authorization_always_allow_paths: Vec<String>,
    /// Accepted for upstream's sake: callers of the secure port are judged with --kubeconfig's identity.
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    /// Accepted for upstream's sake: callers of the secure port are judged with --kubeconfig's identity.
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    /// The name of the cluster; nothing here depends on it.
    #[arg(long, default_value = "kubernetes")]
    pub cluster_name: String,
    /// The range of Services, which node ranges must keep clear of.
    #[arg(long)]
    pub service_cluster_ip_range: Option<String>,
    /// Requests per second; accepted for upstream's sake, the API server's own fairness limits us.
    #[arg(long, default_value_t = 20.0)]
    pub kube_api_qps: f32,
    /// Requests at once; accepted for upstream's sake, the API server's own fairness limits us.
    #[arg(long, default_value_t = 30)]
    pub kube_api_burst: i32,
    /// Resource claims that are worked on at the same time.
    #[arg(long, default_value_t = 50)]
    pub concurrent_resourceclaim_syncs: usize,
    /// Services that are mirrored at the same time.
    #[arg(long, default_value_t = 5)]
    pub mirroring_concurrent_service_endpoint_syncs: usize,
    /// Policies whose status is worked on at the same time.
    #[arg(long, default_value_t = 5)]
    pub concurrent_validating_admission_policy_status_syncs: usize,
    /// Devices' taints that are worked on at the same time.
    #[arg(long, default_value_t = 8)]
    pub concurrent_device_taint_eviction_syncs: usize,
    /// Feature gates, `Name=true|false`; those without a controller here are checked and have no effect.
    #[arg(long, value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// Run the garbage collector.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "true", action = ArgAction::Set)]
    pub enable_garbage_collector: bool,
    /// Accepted for upstream's sake: callers of the secure port show bearer tokens, not certificates.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Accepted for upstream's sake: callers of the secure port show bearer tokens, not certificates.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Hand controllers over to another manager while it is upgraded; must be off.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, default_value = "false", action = ArgAction::Set)]
    pub enable_leader_migration: bool,
    /// Log format: text or json.
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub logging_format: String,
    /// Log verbosity.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
}

/// Go's durations as far as flags use them: `1s`, `500ms`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("invalid duration {text:?}");
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        let unit = match &rest[digits..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            _ => return Err(bad()),
        };
        total += number * unit;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| bad())
}

/// Why the flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("--{flag}: read {}", path.display())]
    Read {
        /// Which flag.
        flag: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A flag's value cannot be used.
    #[error("--{flag}: {message}")]
    Value {
        /// Which flag.
        flag: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The configuration of the connection is unusable.
    #[error(transparent)]
    Connection(#[from] client::ConfigError),
}

fn read(flag: &'static str, path: Option<&PathBuf>) -> Result<Option<String>, Error> {
    let Some(path) = path else { return Ok(None) };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(source) => Err(Error::Read { flag, path: path.clone(), source }),
    }
}

impl Flags {
    /// The controllers' options.
    ///
    /// # Errors
    /// A file cannot be read, or values contradict one another.
    pub fn options(&self) -> Result<Options, Error> {
        if self.enable_leader_migration {
            let message = "there is no cloud controller manager that controllers could be handed over to".to_owned();
            return Err(Error::Value { flag: "enable-leader-migration", message });
        }
        let gates = features::Gates::parse(self.feature_gates.iter().map(String::as_str))
            .map_err(|error| Error::Value { flag: "feature-gates", message: error.to_string() })?;
        let mut controllers = self.controllers.clone();
        if !self.enable_garbage_collector {
            controllers.push("-garbage-collector-controller".to_owned());
        }
        crate::frame::check_names(&self.controllers)
            .map_err(|message| Error::Value { flag: "controllers", message })?;
        let key = read("service-account-private-key-file", self.service_account_private_key_file.as_ref())?;
        let signer = match (&self.cluster_signing_cert_file, &self.cluster_signing_key_file) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                let cert = read("cluster-signing-cert-file", Some(cert))?.unwrap_or_default();
                let key = read("cluster-signing-key-file", Some(key))?.unwrap_or_default();
                Some((cert, key))
            }
            _ => {
                let message = "must be given together with --cluster-signing-key-file".to_owned();
                return Err(Error::Value { flag: "cluster-signing-cert-file", message });
            }
        };
        if self.allocate_node_cidrs && self.cluster_cidr.is_empty() {
            let message = "must be set when --allocate-node-cidrs is".to_owned();
            return Err(Error::Value { flag: "cluster-cidr", message });
        }
        let mask4 = self.node_cidr_mask_size_ipv4.or(self.node_cidr_mask_size).unwrap_or(24);
        let mask6 = self.node_cidr_mask_size_ipv6.or(self.node_cidr_mask_size).unwrap_or(64);
        Ok(Options {
            controllers,
            root_ca_pem: read("root-ca-file", self.root_ca_file.as_ref())?,
            cluster_cidrs: if self.allocate_node_cidrs { self.cluster_cidr.clone() } else { Vec::new() },
            node_cidr_mask: (mask4, mask6),
            workers: 5,
            workers_of: self.workers(),
            service_account_key_pem: key,
            token_secrets: std::env::var("CORTEN_PROFILE").is_ok_and(|profile| profile == "workshop"),
            signer_pem: signer,
            signing_duration: self.cluster_signing_duration,
            node_monitor_grace: self.node_monitor_grace_period,
            node_monitor_period: self.node_monitor_period,
            terminated_pod_threshold: usize::try_from(self.terminated_pod_gc_threshold).ok().filter(|n| *n > 0),
            eviction: crate::frame::EvictionRates {
                healthy: self.node_eviction_rate,
                unhealthy: self.secondary_node_eviction_rate,
                threshold: self.unhealthy_zone_threshold,
                large: self.large_cluster_size_threshold,
            },
            autoscaler: crate::frame::AutoscalerOptions {
                sync_period: self.horizontal_pod_autoscaler_sync_period,
                downscale_stabilization: self.horizontal_pod_autoscaler_downscale_stabilization,
                tolerance: self.horizontal_pod_autoscaler_tolerance,
                cpu_initialization: self.horizontal_pod_autoscaler_cpu_initialization_period,
                initial_readiness: self.horizontal_pod_autoscaler_initial_readiness_delay,
                scale_to_zero: gates.enabled("HPAScaleToZero"),
            },
            pod_groups: gates.enabled("GenericWorkload"),
            job_gangs: gates.enabled("WorkloadWithJob"),
            legacy_token_cleanup: self.legacy_service_account_token_clean_up_period,
            local_path: None,
            health: crate::frame::Health::default(),
        })
    }

    fn workers(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("deployment-controller", self.concurrent_deployment_syncs),
            ("replicaset-controller", self.concurrent_replicaset_syncs),
            ("replicationcontroller-controller", self.concurrent_rc_syncs),
            ("statefulset-controller", self.concurrent_statefulset_syncs),
            ("daemonset-controller", self.concurrent_daemonset_syncs),
            ("job-controller", self.concurrent_job_syncs),
            ("cronjob-controller", self.concurrent_cron_job_syncs),
            ("endpoints-controller", self.concurrent_endpoint_syncs),
            ("endpointslice-controller", self.concurrent_service_endpoint_syncs),
            ("namespace-controller", self.concurrent_namespace_syncs),
            ("garbage-collector-controller", self.concurrent_gc_syncs),
            ("resourcequota-controller", self.concurrent_resource_quota_syncs),
            ("serviceaccount-token-controller", self.concurrent_serviceaccount_token_syncs),
            ("ttl-after-finished-controller", self.concurrent_ttl_after_finished_syncs),
            ("horizontal-pod-autoscaler-controller", self.concurrent_horizontal_pod_autoscaler_syncs),
            ("device-taint-eviction-controller", self.concurrent_device_taint_eviction_syncs),
            ("resourceclaim-controller", self.concurrent_resourceclaim_syncs),
            ("endpointslice-mirroring-controller", self.mirroring_concurrent_service_endpoint_syncs),
            ("validatingadmissionpolicy-status-controller", self.concurrent_validating_admission_policy_status_syncs),
            ("ephemeral-volume-controller", self.concurrent_ephemeralvolume_syncs),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_as_upstream() {
        let flags = Flags::try_parse_from([
            "kube-controller-manager",
            "--controllers=*,-job-controller",
            "--leader-elect=false",
            "--cluster-cidr=10.0.0.0/16",
            "--allocate-node-cidrs",
            "--node-monitor-grace-period=1m30s",
            "-v=2",
        ]);
        let flags = flags.unwrap();
        assert_eq!(flags.controllers, ["*", "-job-controller"]);
        assert!(!flags.leader_elect && flags.allocate_node_cidrs);
        assert_eq!(flags.node_monitor_grace_period, Duration::from_secs(90));
        assert_eq!(flags.options().unwrap().cluster_cidrs, ["10.0.0.0/16"]);
        assert!(Flags::try_parse_from(["kube-controller-manager", "--no-such-flag"]).is_err());
    }
}
