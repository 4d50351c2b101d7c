//! The flags of `kube-apiserver`: upstream's names and defaults. What is not here is refused.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// `kube-apiserver`.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "kube-apiserver",
    about = "The Kubernetes API server",
    disable_version_flag = true,
    next_line_help = true
)]
pub struct Flags {
    /// etcd servers (scheme://ip:port), comma separated.
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    /// CA of the etcd servers.
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    /// Client certificate for etcd.
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    /// Prefix of all keys; only upstream's default is supported.
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// Interval of compaction requests, such as 5m0s; 0 disables it.
    #[arg(long, default_value = "5m0s")]
    pub etcd_compaction_interval: String,
    /// Media type of stored objects; only protobuf is supported.
    #[arg(long, default_value = "application/vnd.kubernetes.protobuf")]
    pub storage_media_type: String,
    /// File that says which resources are encrypted in the store, and how.
    #[arg(long)]
    pub encryption_provider_config: Option<PathBuf>,
    /// Whether changes of that file take effect at once.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub encryption_provider_config_automatic_reload: bool,
    /// Address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind_address: IpAddr,
    /// Port for HTTPS.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Address that other components reach this server at.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Host name for generated URLs.
    #[arg(long, default_value = "")]
    pub external_hostname: String,
    /// Directory of generated certificates.
    #[arg(long, default_value = "/var/run/kubernetes")]
    pub cert_dir: PathBuf,
    /// Serving certificate.
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// CA of client certificates.
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    /// Static tokens.
    #[arg(long)]
    pub token_auth_file: Option<PathBuf>,
    /// Whether requests without credentials are `system:anonymous`.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub anonymous_auth: bool,
    /// Whether bootstrap tokens authenticate.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_bootstrap_token_auth: bool,
    /// Headers with the front proxy's user name.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_username_headers: Vec<String>,
    /// Headers with groups.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_group_headers: Vec<String>,
    /// Prefixes of headers with extra facts.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_extra_headers_prefix: Vec<String>,
    /// Headers with the uid.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,
    /// Names of front-proxy certificates; none allows every one.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    /// CA of front-proxy certificates.
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Certificate towards aggregated servers.
    #[arg(long)]
    pub proxy_client_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub proxy_client_key_file: Option<PathBuf>,
    /// Authentication and authorization.
    #[command(flatten)]
    pub auth: crate::auth::AuthFlags,
    /// Authorizers in order; AlwaysAllow when neither they nor --authorization-config are given.
    #[arg(long, value_delimiter = ',')]
    pub authorization_mode: Vec<String>,
    /// Issuers of service-account tokens; the first signs.
    #[arg(long, value_delimiter = ',')]
    pub service_account_issuer: Vec<String>,
    /// Key that signs service-account tokens.
    #[arg(long)]
    pub service_account_signing_key_file: Option<PathBuf>,
    /// Keys that verify service-account tokens.
    #[arg(long, value_delimiter = ',')]
    pub service_account_key_file: Vec<PathBuf>,
    /// Whether the objects that a token names must exist.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub service_account_lookup: bool,
    /// URL of the key set in issuer discovery.
    #[arg(long, default_value = "")]
    pub service_account_jwks_uri: String,
    /// Longest life of a requested token.
    #[arg(long, default_value = "0s")]
    pub service_account_max_token_expiration: String,
    /// Audiences of this API.
    #[arg(long, value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// Ranges of cluster IPs.
    #[arg(long, value_delimiter = ',', default_value = "10.0.0.0/24")]
    pub service_cluster_ip_range: Vec<String>,
    /// Ports of NodePort services.
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    /// Plugins to enable besides the default ones.
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    /// Plugins to disable.
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// Configuration of single plugins.
    #[arg(long)]
    pub admission_control_config_file: Option<PathBuf>,
    /// Default toleration of notReady.
    #[arg(long, default_value_t = 300)]
    pub default_not_ready_toleration_seconds: i64,
    /// Default toleration of unreachable.
    #[arg(long, default_value_t = 300)]
    pub default_unreachable_toleration_seconds: i64,
    /// CA of kubelets' serving certificates.
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    /// Client certificate for kubelets.
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    /// Order of node addresses.
    #[arg(long, value_delimiter = ',', default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP")]
    pub kubelet_preferred_address_types: Vec<String>,
    /// Privileged containers; they are always allowed.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_privileged: bool,
    /// Read requests in flight.
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    /// Write requests in flight.
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    /// Whether priority and fairness replaces the two limits; their sum is what it shares out.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_priority_and_fairness: bool,
    /// Deadline of requests.
    #[arg(long, default_value = "1m0s")]
    pub request_timeout: String,
    /// Shortest life of a watch in seconds.
    #[arg(long, default_value_t = 1800)]
    pub min_request_timeout: u64,
    /// How long the server still answers, not ready, after it was told to end.
    #[arg(long, default_value = "0s")]
    pub shutdown_delay_duration: String,
    /// Who says which API servers are behind the kubernetes Service: lease, master-count or none.
    #[arg(long, default_value = "lease")]
    pub endpoint_reconciler_type: String,
    /// How many API servers master-count expects.
    #[arg(long, default_value_t = 1)]
    pub apiserver_count: usize,
    /// How long events are kept.
    #[arg(long, default_value = "1h0m0s")]
    pub event_ttl: String,
    /// Auditing.
    #[command(flatten)]
    pub audit: crate::audit::flags::AuditFlags,
    /// Feature gates, `Name=true`.
    #[arg(long, value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    /// API versions and resources to switch on and off: api/all, api/ga, api/beta, api/alpha, GROUP/VERSION or
    /// GROUP/VERSION/RESOURCE, each =true or =false.
    #[arg(long, value_delimiter = ',')]
    pub runtime_config: Vec<String>,
    /// Profiling endpoints; there are none.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub profiling: bool,
    /// `text` or `json`.
    #[arg(long, default_value = "text")]
    pub logging_format: String,
    /// Log verbosity.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub v: u8,
    /// Print the version and quit.
    #[arg(long, default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub version: bool,
    /// Every flag with its value, as `/flagz` shows them.
    #[arg(skip)]
    pub shown: BTreeMap<String, String>,
}

/// Parses Go's duration text, such as `1m0s` or `300ms`.
///
/// # Errors
/// Not a duration.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    meta::time::parse_go_duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"))
}

impl Flags {
    /// Reads a command line, whose first word is the command's name, and notes every flag's value in `shown`.
    ///
    /// # Errors
    /// A flag that there is not, or a value that cannot be used.
    pub fn read(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let command = <Self as clap::CommandFactory>::command();
        let ids: Vec<(clap::Id, String, bool)> = command
            .get_arguments()
            .filter_map(|a| Some((a.get_id().clone(), a.get_long()?.to_owned(), a.get_value_delimiter().is_some())))
            .collect();
        let matches = command.try_get_matches_from(arguments)?;
        let mut flags = <Self as clap::FromArgMatches>::from_arg_matches(&matches)?;
        for (id, name, list) in ids {
            let values = matches.try_get_raw(id.as_str()).ok().flatten();
            let values: Vec<_> = values.into_iter().flatten().map(|v| v.to_string_lossy().into_owned()).collect();
            let text = if list { format!("[{}]", values.join(",")) } else { values.join(",") };
            flags.shown.insert(name, text);
        }
        Ok(flags)
    }

    /// Checks flags against each other, in upstream's words; all that is wrong, joined.
    ///
    /// # Errors
    /// What is wrong.
    pub fn validate(&self, workshop: bool, own_store: bool) -> Result<(), String> {
        let mut wrong = Vec::new();
        if self.etcd_servers.is_empty() && !own_store {
            wrong.push("--etcd-servers must be specified".to_owned());
        }
        if self.etcd_prefix.trim_end_matches('/') != "/registry" {
            wrong.push("--etcd-prefix: only /registry is supported".to_owned());
        }
        if self.storage_media_type != "application/vnd.kubernetes.protobuf" {
            wrong.push("--storage-media-type: only application/vnd.kubernetes.protobuf is supported".to_owned());
        }
        if self.encryption_provider_config_automatic_reload && self.encryption_provider_config.is_none() {
            wrong.push(
                "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config"
                    .to_owned(),
            );
        }
        if self.secure_port == 0 {
            wrong.push(
                "--secure-port 0 must be between 1 and 65535, inclusive. It cannot be turned off with 0".to_owned(),
            );
        }
        if self.tls_cert_file.is_some() != self.tls_private_key_file.is_some() {
            wrong.push("--tls-cert-file and --tls-private-key-file must be specified together".to_owned());
        }
        if !workshop {
            if self.service_account_issuer.is_empty() {
                wrong.push("service-account-issuer is a required flag".to_owned());
            }
            if self.service_account_signing_key_file.is_none() {
                wrong.push("service-account-signing-key-file is a required flag".to_owned());
            }
        }
        if self.service_cluster_ip_range.len() > 2 {
            wrong.push("--service-cluster-ip-range must not contain more than two entries".to_owned());
        }
        if !matches!(self.endpoint_reconciler_type.as_str(), "lease" | "master-count" | "none") {
            wrong.push(format!("unknown endpoint reconciler type: {:?}", self.endpoint_reconciler_type));
        }
        if self.apiserver_count == 0 {
            wrong.push("--apiserver-count should be a positive number, but value '0' provided".to_owned());
        }
        wrong.extend(self.audit.problems());
        wrong.extend(self.auth.problems(&self.authorization_mode));
        match wrong.len() {
            0 => Ok(()),
            1 => Err(wrong.remove(0)),
            _ => Err(format!("[{}]", wrong.join(", "))),
        }
    }

    /// The authorizers in order.
    pub fn modes(&self) -> Vec<&str> {
        match self.authorization_mode.as_slice() {
            [] if self.auth.authorization_config.is_none() => vec!["AlwaysAllow"],
            given => given.iter().map(String::as_str).collect(),
        }
    }

    /// The range of node ports.
    ///
    /// # Errors
    /// Not a range.
    pub fn node_ports(&self) -> Result<std::ops::RangeInclusive<u16>, String> {
        let text = &self.service_node_port_range;
        let wrong =
            || format!("invalid argument {text:?} for \"--service-node-port-range\" flag: unable to parse port range");
        if let Some((low, high)) = text.split_once('-') {
            return Ok(low.parse().map_err(|_| wrong())?..=high.parse().map_err(|_| wrong())?);
        }
        let (low, size) = text.split_once('+').ok_or_else(wrong)?;
        let (low, size): (u16, u16) = (low.parse().map_err(|_| wrong())?, size.parse().map_err(|_| wrong())?);
        Ok(low..=low.saturating_add(size))
    }
}
