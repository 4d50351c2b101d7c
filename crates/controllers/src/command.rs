//! `kube-controller-manager` as a command.

use std::ffi::OsString;
use std::sync::Arc;

use clap::Parser;
use client::{Client, ConfigError, HttpTransport, Kubeconfig, TlsIdentity, Transport};
use informer::{Factory, LeaderConfig, lead};
use rt::Shutdown;

use crate::flags::{Error, Flags};
use crate::frame::{Options, run};

const USER_AGENT: &str = "kube-controller-manager";

/// Runs the command until shutdown, or until the leadership is lost. `arguments` begin with the command's name. Gives
/// the exit code.
pub async fn main(arguments: impl IntoIterator<Item = OsString>, shutdown: Shutdown) -> u8 {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to be done when standard error is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    let json = flags.logging_format == "json";
    telemetry::logs::init(
        if json { telemetry::logs::Format::Json } else { telemetry::logs::Format::Text },
        flags.verbosity,
    );
    let prepared = flags.options().and_then(|options| Ok((options, connect(&flags)?, bare(&flags)?)));
    let prepared = match prepared {
        Ok((options, client, bare)) => {
            let opened = crate::serve::start(&flags, &client, options.health.clone(), &shutdown).await;
            opened.map(|()| (options, client, bare))
        }
        Err(error) => Err(error),
    };
    match prepared {
        Ok((options, client, bare)) => serve(&flags, options, client, bare, shutdown).await,
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

/// The way to the same server with no credentials, for clients that bring their own.
fn bare(flags: &Flags) -> Result<Option<Arc<dyn Transport>>, Error> {
    if !flags.use_service_account_credentials {
        return Ok(None);
    }
    if let Some(path) = &flags.kubeconfig {
        let transport = Kubeconfig::load(path)?.bare_transport(flags.master.as_deref())?;
        return Ok(Some(Arc::new(transport)));
    }
    let Some(master) = &flags.master else {
        let message = "needs --kubeconfig or --master".to_owned();
        return Err(Error::Value { flag: "use-service-account-credentials", message });
    };
    Ok(Some(Arc::new(HttpTransport::new(master, &TlsIdentity::default(), None)?)))
}

/// The client: from the kubeconfig, else the in-cluster files, else `--master` alone.
fn connect(flags: &Flags) -> Result<Client, Error> {
    if let Some(path) = &flags.kubeconfig {
        let transport = Kubeconfig::load(path)?.transport(flags.master.as_deref())?;
        return Ok(Client::new(Arc::new(transport), USER_AGENT));
    }
    let Some(master) = &flags.master else {
        tracing::warn!(
            "Neither --kubeconfig nor --master was specified. Using the inClusterConfig. This might not work."
        );
        if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() {
            return Err(ConfigError::Invalid("no configuration has been provided".into()).into());
        }
        return Ok(client::in_cluster(USER_AGENT)?);
    };
    let transport = HttpTransport::new(master, &TlsIdentity::default(), None)?;
    Ok(Client::new(Arc::new(transport), USER_AGENT))
}

async fn serve(
    flags: &Flags,
    options: Options,
    client: Client,
    bare: Option<Arc<dyn Transport>>,
    shutdown: Shutdown,
) -> u8 {
    let work = {
        let client = client.clone();
        move |term: Shutdown| async move {
            let factory = Factory::new(client.clone());
            let client_for = |account: &str| {
                let user_agent = format!("{USER_AGENT}/{account}");
                match &bare {
                    Some(bare) => crate::accounts::client(&client, bare.clone(), account, &user_agent),
                    None => client.with_user_agent(&user_agent),
                }
            };
            // What waits for its caches does not look at the stop.
            term.clone().run(run(options, factory, client_for, term)).await;
        }
    };
    if !flags.leader_elect {
        work(shutdown).await;
        return 0;
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let identity = format!("{}_{}", host.trim(), rt::rand::uid());
    let mut config =
        LeaderConfig::new(&flags.leader_elect_resource_namespace, &flags.leader_elect_resource_name, &identity);
    config.lease_duration = flags.leader_elect_lease_duration;
    config.renew_deadline = flags.leader_elect_renew_deadline;
    config.retry_period = flags.leader_elect_retry_period;
    lead(client, config, shutdown.clone(), work).await;
    // Upstream's components end when another leads, so that a supervisor starts them afresh.
    u8::from(!shutdown.is_cancelled())
}
