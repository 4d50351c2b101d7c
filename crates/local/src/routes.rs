//! Routes to pods: each node's podCIDRs by way of its address.

use std::net::IpAddr;

use api::Kind;
use api::k8s::core::v1::Node;
use informer::Factory;
use ipnet::IpNet;
use rt::Shutdown;
use rt::sync::Notify;
use std::sync::Arc;

fn address(node: &Node) -> Option<IpAddr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses.iter().find(|a| a.type_ == "InternalIP")?.address.parse().ok()
}

/// What is to be routed where: podCIDRs of all nodes but our own, and `services` by way of any one node.
fn wanted(nodes: &[Arc<Node>], own: Option<&str>, services: Option<IpNet>) -> Vec<(IpNet, IpAddr)> {
    let mut routes = Vec::new();
    let mut others: Vec<&Arc<Node>> = nodes.iter().filter(|n| Some(n.name()) != own).collect();
    others.sort_by(|a, b| a.name().cmp(b.name()));
    for node in &others {
        let Some(via) = address(node) else { continue };
        let cidrs = node.spec.as_ref().and_then(|s| s.pod_cidrs.as_deref()).unwrap_or_default();
        routes.extend(cidrs.iter().filter_map(|cidr| Some((cidr.parse().ok()?, via))));
    }
    if let (Some(services), Some(via)) = (services, others.iter().find_map(|n| address(n))) {
        routes.push((services, via));
    }
    routes
}

/// Keeps the routes of this network namespace as the Nodes say, until told to stop.
///
/// With `own`, that node's ranges are left out; with `services`, Services are reached by way of a node.
pub async fn follow_routes(
    factory: Factory,
    own: Option<String>,
    services: Option<IpNet>,
    nodes_net: IpNet,
    shutdown: Shutdown,
) {
    let nodes = factory.informer::<Node>();
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    nodes.add_handler(move |_| wake.notify_one());
    let mut last = None;
    let work = async move {
        nodes.synced().await;
        loop {
            let routes = wanted(&nodes.cache().list(), own.as_deref(), services);
            if last.as_ref() != Some(&routes) {
                let apply = routes.clone();
                match rt::spawn_blocking(move || cni::hostnet::sync_routes(&apply, nodes_net)).await {
                    Ok(Ok(())) => last = Some(routes),
                    Ok(Err(error)) => tracing::warn!(%error, "cannot set the routes to pods"),
                    Err(error) => tracing::warn!(%error, "setting the routes to pods was cut off"),
                }
            }
            changed.notified().await;
        }
    };
    shutdown.run(work).await;
}
