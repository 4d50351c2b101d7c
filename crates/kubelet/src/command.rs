//! `kubelet` as a command: joined by a kubeconfig, or standalone with static pods.

use std::ffi::OsString;
use std::sync::Arc;

use clap::Parser;
use client::{Client, Kubeconfig};
use node_api::{ImageService, NetworkService, RuntimeService};
use rt::Shutdown;

use crate::config::Config;
use crate::flags::{Flags, Options};

/// The pod network of a kubelet that is given none: standalone, and in the workshop, where nobody gives nodes ranges.
const LONE_PODS: &str = "10.88.0.0/24";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a kubelet runs pods with; the binary knows which there are.
pub struct Node {
    /// Pods and containers.
    pub runtime: Arc<dyn RuntimeService>,
    /// Images.
    pub images: Arc<dyn ImageService>,
    /// The pod network.
    pub network: Arc<dyn NetworkService>,
}

/// Runs the command until shutdown; pods stay when it ends. `arguments` begin with the command's name. Gives the exit
/// code.
pub async fn main<F>(arguments: Vec<OsString>, shutdown: Shutdown, open: impl FnOnce() -> F) -> u8
where
    F: Future<Output = Result<Node, BoxError>>,
{
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to be done when standard error is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    match serve(flags, shutdown, open).await {
        Ok(()) => 0,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("error: {text}");
            1
        }
    }
}

async fn serve<F>(flags: Flags, shutdown: Shutdown, open: impl FnOnce() -> F) -> Result<(), BoxError>
where
    F: Future<Output = Result<Node, BoxError>>,
{
    telemetry::logs::init(telemetry::logs::Format::Text, flags.verbosity);
    if !rustix::process::geteuid().is_root() {
        return Err("the kubelet needs root: it makes namespaces, mounts, interfaces and cgroups".into());
    }
    let Options { mut config, kubeconfig, runtime_endpoint, .. } = flags.options()?;
    if !runtime_endpoint.is_empty() {
        let text = "--container-runtime-endpoint: external runtimes are not supported yet; leave it out for the \
                    built-in one";
        return Err(text.into());
    }
    let client = match &kubeconfig {
        Some(path) => Some(Kubeconfig::load(path)?.client("kubelet")?),
        None => {
            tracing::warn!("no --kubeconfig: standalone, only static pods run and no cluster is joined");
            None
        }
    };
    let node = open().await?;
    give_addresses(&mut config, client.as_ref(), &node).await?;
    crate::run(config, client, node.runtime, node.images, node.network, shutdown).await?;
    Ok(())
}

/// Pods need addresses where no controller gives the node a range. A range in the Node takes its place.
async fn give_addresses(config: &mut Config, client: Option<&Client>, node: &Node) -> Result<(), BoxError> {
    if !config.pod_cidr.is_empty() {
        return Ok(());
    }
    if client.is_none() {
        config.pod_cidr = LONE_PODS.to_owned();
    } else if std::env::var("CORTEN_PROFILE").is_ok_and(|profile| profile == "workshop") {
        node.network.set_pod_cidrs(&[LONE_PODS.to_owned()]).await?;
    }
    Ok(())
}
