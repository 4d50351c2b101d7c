//! What a node runs pods with: the built-in runtime, images and pod network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use kubelet::command::Node;
use local::Layout;
use node_api::NetworkService;

/// Configurations of a user's own pod network; they go before the built-in one.
const CNI_CONF: &str = "/etc/cni/net.d";

/// Opens images in a folder that nodes may share; the built-in one is among them.
pub(crate) fn open_images(dir: PathBuf) -> anyhow::Result<images::Store> {
    let images = images::Store::open(dir).context("open the image store")?;
    let builtin = format!("corten.local/corten:{}", env!("CARGO_PKG_VERSION"));
    images.ensure_builtin(&builtin, Path::new("/proc/self/exe")).context("make the built-in image")?;
    Ok(images)
}

/// Opens the rest: the network, and the runtime in a folder of the node's own.
pub(crate) async fn open(images: images::Store, runtime: PathBuf, network: cni::Config) -> anyhow::Result<Node> {
    let network: Arc<dyn NetworkService> = Arc::new(cni::Network::new(network));
    let mut options = runtime::Options::new(Arc::new(images.clone()));
    options.network = Some(network.clone());
    let runtime = runtime::Runtime::open(runtime, options).await.context("open the runtime")?;
    Ok(Node { runtime: Arc::new(runtime), images: Arc::new(images), network })
}

/// The node of a `kubelet` that runs alone.
pub(crate) async fn open_lone() -> anyhow::Result<Node> {
    let layout = Layout::lone_node();
    let mut network = cni::Config::built_in(layout.data.join("cni"));
    network.conf_dir = Some(PathBuf::from(CNI_CONF)).filter(|dir| dir.exists());
    // Alone, nobody routes the pods: they leave with the node's address.
    network.masquerade = true;
    let images = open_images(layout.images())?;
    if std::env::var("CORTEN_PROFILE").is_ok_and(|profile| profile == "workshop") {
        images.prefer_present();
    }
    open(images, layout.data.join("runtime"), network).await
}
