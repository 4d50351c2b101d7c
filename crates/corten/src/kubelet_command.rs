//! `kubelet` alone: with our runtime, images and pod network, joined to any API server or standalone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use client::Kubeconfig;
use kubelet::flags::{Flags, Options};
use node_api::{ImageService, NetworkService, RuntimeService};
use rt::Shutdown;

/// Where the runtime of a lone kubelet keeps pods, images and addresses.
const STATE: &str = "/var/lib/corten-node";
/// Configurations of a user's own pod network; they go before the built-in one.
const CNI_CONF: &str = "/etc/cni/net.d";
/// The pod network of a standalone kubelet that is given none.
const STANDALONE_PODS: &str = "10.88.0.0/24";

/// Runs the command until told to stop. Pods stay when it ends.
pub(crate) async fn run(arguments: Vec<OsString>, shutdown: Shutdown) -> anyhow::Result<()> {
    let flags = <Flags as clap::Parser>::parse_from(arguments);
    let Options { mut config, kubeconfig, runtime_endpoint, verbosity, .. } = flags.options()?;
    telemetry::logs::init(telemetry::logs::Format::Text, verbosity);
    if !runtime_endpoint.is_empty() {
        bail!(
            "--container-runtime-endpoint: external runtimes are not supported yet; leave it out for the built-in one"
        );
    }
    let client = match &kubeconfig {
        Some(path) => Some(Kubeconfig::load(path)?.client("kubelet")?),
        None => {
            tracing::warn!("no --kubeconfig: standalone, only static pods run");
            None
        }
    };
    if config.pod_cidr.is_empty() && client.is_none() {
        config.pod_cidr = STANDALONE_PODS.to_owned();
    }
    let (runtime, images, network) = node(Path::new(STATE)).await?;
    kubelet::run(config, client, runtime, images, network, shutdown).await.context("run the kubelet")
}

type Node = (Arc<dyn RuntimeService>, Arc<dyn ImageService>, Arc<dyn NetworkService>);

async fn node(state: &Path) -> anyhow::Result<Node> {
    let images = images::Store::open(state.join("images")).context("open the image store")?;
    let builtin = format!("corten.local/corten:{}", env!("CARGO_PKG_VERSION"));
    images.ensure_builtin(&builtin, Path::new("/proc/self/exe")).context("make the built-in image")?;
    let mut network = cni::Config::built_in(state.join("cni"));
    network.conf_dir = Some(PathBuf::from(CNI_CONF)).filter(|dir| dir.exists());
    // Alone, nobody routes the pods: they leave with the node's address.
    network.masquerade = true;
    let network: Arc<dyn NetworkService> = Arc::new(cni::Network::new(network));
    let mut options = runtime::Options::new(Arc::new(images.clone()));
    options.network = Some(network.clone());
    let runtime = runtime::Runtime::open(state.join("runtime"), options).await.context("open the runtime")?;
    Ok((Arc::new(runtime), Arc::new(images), network))
}
