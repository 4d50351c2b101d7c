//! A node for any API server: this kubelet with the built-in runtime, images and network, for trials against upstream.
//!
//! `node --kubeconfig F --root-dir D [--images TAR] <kubelet flags>`

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use node_api::{ImageService, NetworkService, RuntimeService};
use rt::Shutdown;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.first().is_some_and(|name| name == "corten-supervisor") {
        return ExitCode::from(u8::try_from(runtime::supervisor::main(arguments.into_iter().skip(1))).unwrap_or(1));
    }
    telemetry::logs::init(telemetry::logs::Format::Text, 2);
    let images = arguments.iter().position(|a| a == "--images").map(|at| {
        arguments.remove(at);
        PathBuf::from(arguments.remove(at))
    });
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match executor.map_err(anyhow::Error::from).and_then(|e| e.block_on(run(arguments, images))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Vec<OsString>, tar: Option<PathBuf>) -> anyhow::Result<()> {
    let options = kubelet::flags::Flags::parse_from(arguments).options()?;
    let root = options.config.root_dir.clone();
    let images = images::Store::open(root.join("images"))?;
    if let Some(tar) = tar {
        images.import(&tar).await?;
    }
    let network: Arc<dyn NetworkService> = Arc::new(cni::Network::new(cni::Config::built_in(root.join("cni"))));
    let mut settings = runtime::Options::new(Arc::new(images.clone()));
    settings.network = Some(network.clone());
    let runtime: Arc<dyn RuntimeService> = Arc::new(runtime::Runtime::open(root.join("runtime"), settings).await?);
    let images: Arc<dyn ImageService> = Arc::new(images);
    let client = match &options.kubeconfig {
        Some(path) => Some(client::Kubeconfig::load(path)?.client("kubelet")?),
        None => None,
    };
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    rt::spawn("signals", async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    kubelet::run(options.config, client, runtime, images, network, shutdown).await?;
    Ok(())
}
