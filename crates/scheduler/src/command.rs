//! `kube-scheduler` as a command: upstream's flags, as far as they are here; others are refused.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{ArgAction, Parser};
use client::{Client, ConfigError, HttpTransport, Kubeconfig, TlsIdentity};
use informer::{Factory, LeaderConfig, lead};
use rt::Shutdown;

use crate::config::Configuration;
use crate::scheduler::{Options, run, start};
use crate::serve::{self, ServeFlags};

const USER_AGENT: &str = "kube-scheduler";

/// `kube-scheduler`.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "kube-scheduler",
    display_name = "Kubernetes",
    version = "v1.36.0",
    about = "The Kubernetes scheduler",
    next_line_help = true
)]
struct Flags {
    /// Address of the API server; goes before the kubeconfig's.
    #[arg(long)]
    master: Option<String>,
    /// Kubeconfig file.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// File with a KubeSchedulerConfiguration; goes before the flags that it has fields for.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Wait to be leader before scheduling.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    leader_elect: Option<bool>,
    /// Namespace of the leader's lease.
    #[arg(long)]
    leader_elect_resource_namespace: Option<String>,
    /// Name of the leader's lease.
    #[arg(long)]
    leader_elect_resource_name: Option<String>,
    /// Feature gates, `Name=true|false`.
    #[arg(long, value_delimiter = ',', value_name = "mapStringBool")]
    feature_gates: Vec<String>,
    #[command(flatten)]
    serve: ServeFlags,
    /// Log verbosity.
    #[arg(short, default_value_t = 2)]
    v: u8,
}

fn client(flags: &Flags, configuration: &Configuration) -> Result<Client, ConfigError> {
    match (configuration.kubeconfig.as_ref().or(flags.kubeconfig.as_ref()), &flags.master) {
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
    let configuration = match flags.config.as_deref().map(Configuration::load).transpose() {
        Ok(configuration) => configuration.unwrap_or_default(),
        Err(error) => return fail(&error),
    };
    let gates = match features::Gates::parse(flags.feature_gates.iter().map(String::as_str)) {
        Ok(gates) => gates,
        Err(error) => {
            eprintln!("kube-scheduler: --feature-gates: {error}");
            return 1;
        }
    };
    let client = match client(&flags, &configuration) {
        Ok(client) => client,
        Err(error) => return fail(&error),
    };
    let election = configuration.leader_election.clone();
    let options = Options { configuration, gates, ..Options::default() };
    // Made once before anything is waited for, so that a bad configuration ends the command at once.
    let trial = shutdown.child();
    let made = start(options.clone(), client.clone(), Factory::new(client.clone()), &trial).map(drop);
    trial.cancel();
    if let Err(error) = made {
        return fail(&error);
    }
    if let Err(error) = serve::start(&flags.serve, &client, options.syncing.clone(), &shutdown).await {
        return fail(&error);
    }
    // What waits for its caches does not look at the stop.
    let work = |term: Shutdown| {
        let scheduling = run(options.clone(), client.clone(), Factory::new(client.clone()), term.clone());
        async move {
            term.run(scheduling).await;
        }
    };
    if !flags.leader_elect.or(election.leader_elect).unwrap_or(true) {
        work(shutdown).await;
        return 0;
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let identity = format!("{}_{}", host.trim(), rt::rand::uid());
    let namespace = flags.leader_elect_resource_namespace.or(election.resource_namespace);
    let name = flags.leader_elect_resource_name.or(election.resource_name);
    let lease = LeaderConfig::new(
        namespace.as_deref().unwrap_or("kube-system"),
        name.as_deref().unwrap_or("kube-scheduler"),
        &identity,
    );
    lead(client.clone(), lease, shutdown.clone(), work).await;
    // Upstream's components end when they lose the leadership, so that nothing of the old term goes on.
    u8::from(!shutdown.is_cancelled())
}

fn fail(error: &dyn std::error::Error) -> u8 {
    eprintln!("kube-scheduler: {error}");
    1
}
