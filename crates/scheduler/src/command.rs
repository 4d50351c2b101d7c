//! `kube-scheduler` as a command: upstream's flags, as far as they are here; others are refused.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgAction, Parser};
use client::{Client, ConfigError, HttpTransport, Kubeconfig, TlsIdentity};
use informer::{Factory, LeaderConfig, lead};
use rt::Shutdown;

use crate::scheduler::{Options, run};

const USER_AGENT: &str = "kube-scheduler";

/// `kube-scheduler`.
#[derive(Debug, Clone, Parser)]
#[command(name = "kube-scheduler", version = "Kubernetes v1.36.0", about = "The Kubernetes scheduler")]
struct Flags {
    /// Address of the API server; goes before the kubeconfig's.
    #[arg(long)]
    master: Option<String>,
    /// Kubeconfig file.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Wait to be leader before scheduling.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    leader_elect: bool,
    /// Namespace of the leader's lease.
    #[arg(long, default_value = "kube-system")]
    leader_elect_resource_namespace: String,
    /// Name of the leader's lease.
    #[arg(long, default_value = "kube-scheduler")]
    leader_elect_resource_name: String,
    /// Log verbosity.
    #[arg(short, default_value_t = 2)]
    v: u8,
}

fn client(flags: &Flags) -> Result<Client, ConfigError> {
    match (&flags.kubeconfig, &flags.master) {
        (Some(path), master) => {
            let transport = Kubeconfig::load(path)?.transport(master.as_deref())?;
            Ok(Client::new(Arc::new(transport), USER_AGENT))
        }
        (None, Some(master)) => {
            let transport = HttpTransport::new(master, &TlsIdentity::default(), None)?;
            Ok(Client::new(Arc::new(transport), USER_AGENT))
        }
        (None, None) => {
            tracing::warn!("neither --kubeconfig nor --master was given, trying the files of a pod");
            client::in_cluster(USER_AGENT).map_err(|_| {
                ConfigError::Invalid("no configuration has been provided, try --kubeconfig or --master".into())
            })
        }
    }
}

/// Runs the command until shutdown, or until the leadership is lost. `arguments` begin with the command's name.
/// Gives the exit code.
pub async fn main(arguments: impl IntoIterator<Item = OsString>, shutdown: Shutdown) -> u8 {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to be done when standard error is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    telemetry::logs::init(telemetry::logs::Format::Text, flags.v);
    let client = match client(&flags) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("kube-scheduler: {error}");
            return 1;
        }
    };
    let work = |term: Shutdown| run(Options::default(), client.clone(), Factory::new(client.clone()), term);
    if !flags.leader_elect {
        work(shutdown).await;
        return 0;
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let identity = format!("{}_{}", host.trim(), rt::rand::uid());
    let lease = LeaderConfig::new(&flags.leader_elect_resource_namespace, &flags.leader_elect_resource_name, &identity);
    lead(client.clone(), lease, shutdown.clone(), work).await;
    // Upstream's components end when they lose the leadership, so that nothing of the old term goes on.
    u8::from(!shutdown.is_cancelled())
}
