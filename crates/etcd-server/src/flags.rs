//! The command line: etcd's names and defaults.
//!
//! Flags may be written with one dash, as Go programs take them, and given as `ETCD_…` variables. What only concerns
//! peers is taken and has no effect, because manifests that run etcd give it; a second member is refused.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Parser;

/// `etcd`: the embedded store served as the etcd v3 API.
#[derive(Debug, Clone, Parser)]
#[command(name = "etcd", disable_version_flag = true)]
pub struct Flags {
    /// Name of the member.
    #[arg(long, env = "ETCD_NAME", default_value = "default")]
    pub name: String,
    /// Directory of the data; `<name>.etcd` if not given.
    #[arg(long, env = "ETCD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// URLs to serve clients on.
    #[arg(long, env = "ETCD_LISTEN_CLIENT_URLS", value_delimiter = ',')]
    pub listen_client_urls: Vec<String>,
    /// URLs that clients are told to use.
    #[arg(long, env = "ETCD_ADVERTISE_CLIENT_URLS", value_delimiter = ',')]
    pub advertise_client_urls: Vec<String>,
    /// More URLs for /metrics and /health.
    #[arg(long, env = "ETCD_LISTEN_METRICS_URLS", value_delimiter = ',')]
    pub listen_metrics_urls: Vec<String>,
    /// Certificate for https client URLs.
    #[arg(long, env = "ETCD_CERT_FILE")]
    pub cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, env = "ETCD_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// Authorities of client certificates.
    #[arg(long, env = "ETCD_TRUSTED_CA_FILE")]
    pub trusted_ca_file: Option<PathBuf>,
    /// Ask clients for a certificate and refuse those without.
    #[arg(long, env = "ETCD_CLIENT_CERT_AUTH", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = clap::ArgAction::Set)]
    pub client_cert_auth: bool,
    /// Refuse writes when the database is larger; 0 is no limit.
    #[arg(long, env = "ETCD_QUOTA_BACKEND_BYTES", default_value_t = 0)]
    pub quota_backend_bytes: u64,
    /// Most operations in a transaction.
    #[arg(long, env = "ETCD_MAX_TXN_OPS", default_value_t = 128)]
    pub max_txn_ops: usize,
    /// Largest request.
    #[arg(long, env = "ETCD_MAX_REQUEST_BYTES", default_value_t = 3 << 19)]
    pub max_request_bytes: usize,
    /// How often an idle watch hears of progress.
    #[arg(long, alias = "experimental-watch-progress-notify-interval", env = "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL", value_parser = duration, default_value = "10m")]
    pub watch_progress_notify_interval: Duration,
    /// debug, info, warn or error.
    #[arg(long, env = "ETCD_LOG_LEVEL", value_parser = ["debug", "info", "warn", "error", "panic", "fatal"], default_value = "info")]
    pub log_level: String,
    /// json or console.
    #[arg(long, env = "ETCD_LOG_FORMAT", value_parser = ["json", "console"], default_value = "console")]
    pub log_format: String,
    /// Print the version and exit.
    #[arg(long)]
    pub version: bool,
    /// No effect: peers.
    #[command(flatten)]
    pub peers: PeerFlags,
}

/// Flags about peers, which a single member does not have.
#[derive(Debug, Clone, clap::Args)]
#[allow(missing_docs)]
pub struct PeerFlags {
    #[arg(long, env = "ETCD_LISTEN_PEER_URLS", value_delimiter = ',', hide = true)]
    pub listen_peer_urls: Vec<String>,
    #[arg(long, env = "ETCD_INITIAL_ADVERTISE_PEER_URLS", value_delimiter = ',', hide = true)]
    pub initial_advertise_peer_urls: Vec<String>,
    #[arg(long, env = "ETCD_INITIAL_CLUSTER", value_delimiter = ',', hide = true)]
    pub initial_cluster: Vec<String>,
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_STATE", hide = true)]
    pub initial_cluster_state: Option<String>,
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_TOKEN", hide = true)]
    pub initial_cluster_token: Option<String>,
    #[arg(long, env = "ETCD_PEER_CERT_FILE", hide = true)]
    pub peer_cert_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_PEER_KEY_FILE", hide = true)]
    pub peer_key_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_PEER_TRUSTED_CA_FILE", hide = true)]
    pub peer_trusted_ca_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_PEER_CLIENT_CERT_AUTH", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub peer_client_cert_auth: Option<bool>,
    #[arg(long, env = "ETCD_SNAPSHOT_COUNT", hide = true)]
    pub snapshot_count: Option<u64>,
    #[arg(long, env = "ETCD_HEARTBEAT_INTERVAL", hide = true)]
    pub heartbeat_interval: Option<u64>,
    #[arg(long, env = "ETCD_ELECTION_TIMEOUT", hide = true)]
    pub election_timeout: Option<u64>,
    #[arg(long, alias = "experimental-initial-corrupt-check", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub initial_corrupt_check: Option<bool>,
}

impl PeerFlags {
    /// Whether any of them was given.
    pub fn given(&self) -> bool {
        !self.listen_peer_urls.is_empty()
            || !self.initial_advertise_peer_urls.is_empty()
            || !self.initial_cluster.is_empty()
            || self.peer_cert_file.is_some()
            || self.peer_trusted_ca_file.is_some()
    }
}

impl Flags {
    /// Reads a command line whose first word is the program.
    ///
    /// # Errors
    /// clap's, which also carries `--help`.
    pub fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut flags = Self::try_parse_from(args.into_iter().map(two_dashes))?;
        let listens = !flags.listen_client_urls.is_empty();
        if listens && flags.advertise_client_urls.is_empty() {
            return Err(refuse("--advertise-client-urls is required when --listen-client-urls is set explicitly"));
        }
        if flags.peers.initial_cluster.len() > 1 {
            return Err(refuse("--initial-cluster names several members; this store has one, use etcd for more"));
        }
        if flags.cert_file.is_some() != flags.key_file.is_some() {
            return Err(refuse("--cert-file and --key-file are needed together"));
        }
        if flags.client_cert_auth && flags.trusted_ca_file.is_none() {
            return Err(refuse("--client-cert-auth needs --trusted-ca-file"));
        }
        let local = || vec!["http://localhost:2379".to_owned()];
        if !listens {
            flags.listen_client_urls = local();
        }
        if flags.advertise_client_urls.is_empty() {
            flags.advertise_client_urls = local();
        }
        Ok(flags)
    }

    /// Where the data are.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| format!("{}.etcd", self.name).into())
    }
}

fn refuse(what: &str) -> clap::Error {
    <Flags as clap::CommandFactory>::command().error(clap::error::ErrorKind::ValueValidation, what)
}

/// `-name` means `--name` to Go programs; `-h` stays.
fn two_dashes(arg: OsString) -> OsString {
    match arg.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => format!("-{text}").into(),
        _ => arg,
    }
}

/// Go's durations, as far as flags need them: whole numbers with ms, s, m or h, one after the other.
fn duration(text: &str) -> Result<Duration, String> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u32 = rest[..digits].parse().map_err(|_| format!("invalid duration {text:?}"))?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(format!("invalid duration {text:?}")),
        };
        total += unit * number;
        rest = &rest[unit_end..];
    }
    if total.is_zero() { Err(format!("invalid duration {text:?}")) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Flags, clap::Error> {
        Flags::read(std::iter::once("etcd").chain(args.iter().copied()).map(OsString::from).collect())
    }

    #[test]
    fn defaults_are_etcds() {
        let flags = read(&[]).expect("flags");
        assert_eq!(flags.listen_client_urls, ["http://localhost:2379"]);
        assert_eq!(flags.data_dir(), PathBuf::from("default.etcd"));
        assert!(read(&["-version"]).expect("flags").version, "one dash will do");
    }

    #[test]
    fn what_kubeadm_gives_is_taken() {
        let flags = read(&[
            "--advertise-client-urls=https://10.0.0.1:2379",
            "--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379",
            "--listen-metrics-urls=http://127.0.0.1:2381",
            "--cert-file=server.crt",
            "--key-file=server.key",
            "--trusted-ca-file=ca.crt",
            "--client-cert-auth=true",
            "--data-dir=/var/lib/etcd",
            "--experimental-initial-corrupt-check=true",
            "--experimental-watch-progress-notify-interval=5s",
            "--initial-advertise-peer-urls=https://10.0.0.1:2380",
            "--initial-cluster=cp=https://10.0.0.1:2380",
            "--listen-peer-urls=https://10.0.0.1:2380",
            "--name=cp",
            "--peer-cert-file=peer.crt",
            "--peer-client-cert-auth=true",
            "--peer-key-file=peer.key",
            "--peer-trusted-ca-file=ca.crt",
            "--snapshot-count=10000",
        ])
        .expect("flags");
        assert!(flags.client_cert_auth && flags.peers.given());
        assert_eq!(flags.watch_progress_notify_interval, Duration::from_secs(5));
    }

    #[test]
    fn mistakes_name_the_flag() {
        for (args, word) in [
            (&["--no-such-flag"][..], "--no-such-flag"),
            (&["--listen-client-urls=http://127.0.0.1:1"], "--advertise-client-urls"),
            (&["--initial-cluster=a=http://a:1,b=http://b:1"], "--initial-cluster"),
            (&["--cert-file=x"], "--key-file"),
            (&["--watch-progress-notify-interval=5"], "--watch-progress-notify-interval"),
        ] {
            let error = read(args).expect_err("a mistake").to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
