//! The node agent: kubelet, runtime, images, pod network, service proxy and DNS of one node.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use client::{Client, HttpTransport, TlsIdentity};
use informer::Factory;
use local::{Layout, NodeSpec};
use rt::Shutdown;

use crate::{control_plane, node};

fn client(spec: &NodeSpec, layout: &Layout, identity: &str, user_agent: &str) -> anyhow::Result<Client> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let base = layout.node(&spec.name).join(identity);
    let tls = TlsIdentity {
        ca_pem: Some(read(&layout.pki().join("ca.crt"))?),
        cert_pem: Some(read(&base.with_extension("crt"))?),
        key_pem: Some(read(&base.with_extension("key"))?),
        ..TlsIdentity::default()
    };
    let transport = HttpTransport::new(&spec.addresses.api_url(), &tls, None)?;
    Ok(Client::new(Arc::new(transport), user_agent))
}

fn kubelet_config(spec: &NodeSpec, layout: &Layout) -> anyhow::Result<kubelet::Config> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let base = layout.node(&spec.name).join("kubelet-server");
    let mut config = kubelet::Config::new(&spec.name);
    config.node_ips = vec![spec.address.addr()];
    config.cluster_dns = vec![spec.addresses.dns_service().to_string()];
    config.cluster_domain = "cluster.local".into();
    config.cgroup_root = format!("{}/{}", local::cgroup(&spec.cluster), spec.name);
    config.server.certificate = read(&base.with_extension("crt"))?;
    config.server.key = read(&base.with_extension("key"))?;
    config.server.client_ca = read(&layout.pki().join("ca.crt"))?;
    Ok(config)
}

/// Runs the agent of a node until told to stop. Pods stay when it ends.
pub(crate) async fn run(arguments: Vec<OsString>, shutdown: Shutdown) -> anyhow::Result<()> {
    let spec: NodeSpec = control_plane::read_spec(&arguments)?;
    let layout = Layout::new(&spec.cluster, spec.data.clone());
    let dir = layout.node(&spec.name);
    let images = node::open_images(layout.images())?;
    let node = node::open(images, dir.join("runtime"), cni::Config::built_in(dir.join("cni"))).await?;
    let kubelet_client = client(&spec, &layout, "kubelet-client", "kubelet")?;
    let factory = Factory::new(client(&spec, &layout, "proxy-client", "kube-proxy")?);
    let proxy = start_proxy(&spec, &factory, &shutdown);
    let dns_factory = Factory::new(client(&spec, &layout, "dns-client", "coredns")?);
    let dns = start_dns(&spec, &dns_factory, &shutdown)?;
    dns_factory.start(&shutdown);
    let routes = rt::spawn(
        "routes",
        local::follow_routes(
            factory.clone(),
            Some(spec.name.clone()),
            None,
            spec.addresses.gateway.trunc(),
            shutdown.clone(),
        ),
    );
    factory.start(&shutdown);
    let config = kubelet_config(&spec, &layout)?;
    kubelet::run(config, Some(kubelet_client), node.runtime, node.images, node.network, shutdown.clone())
        .await
        .context("run the kubelet")?;
    shutdown.cancel();
    for task in [proxy, dns, routes] {
        // They end with the shutdown; a panic was logged where it happened.
        let _ = task.await;
    }
    Ok(())
}

fn start_proxy(spec: &NodeSpec, factory: &Factory, shutdown: &Shutdown) -> rt::JoinHandle<()> {
    let mut config = proxy::Config::new(&spec.name);
    config.node_ips = vec![spec.address.addr()];
    config.detect_local = proxy::DetectLocal::ClusterCidr(vec![spec.addresses.pods]);
    config.service_cidrs = vec![spec.addresses.services];
    let runner = proxy::attach(config, factory);
    let shutdown = shutdown.clone();
    rt::spawn("proxy", async move {
        if let Err(error) = runner.run(shutdown).await {
            tracing::error!(%error, "the service proxy ended");
        }
    })
}

/// DNS of the node's pods, on the DNS Service's address, which every node has.
fn start_dns(spec: &NodeSpec, factory: &Factory, shutdown: &Shutdown) -> anyhow::Result<rt::JoinHandle<()>> {
    let address = spec.addresses.dns_service();
    cni::hostnet::ensure_local_addresses("lo", &[address]).context("give the node the DNS address")?;
    let mut config = dns::Config::new(vec![SocketAddr::new(address, 53)], "cluster.local");
    config.upstreams = dns::upstreams_of_host(&[address]);
    config.reverse_ranges = vec![spec.addresses.services, spec.addresses.pods];
    let server = dns::attach(config, factory).context("start cluster DNS")?;
    let shutdown = shutdown.clone();
    Ok(rt::spawn("dns", async move {
        if let Err(error) = server.serve(shutdown).await {
            tracing::error!(%error, "cluster DNS ended");
        }
    }))
}
