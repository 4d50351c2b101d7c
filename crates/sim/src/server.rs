//! The API server: the real pipeline over the memory engine, without a socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use admission::{Chain, Deps, Settings};
use anyhow::Context;
use apiserver::{Config, Handle, Server};
use auth_api::{Edit, Lookup};
use authz::{Authorizers, Member};
use kinds::ServiceRanges;
use parking_lot::Mutex;
use registry::{Access, Registry};
use rt::Shutdown;
use store::Store;

const SERVICES: &str = "10.96.0.0/16";
const SERVICE_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 6443);
/// Node ports.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// A server that runs, and what tells that it does no more.
#[derive(Clone)]
pub struct Running {
    /// The way in.
    pub handle: Handle,
    /// Cancelled when the process dies: connections break.
    pub down: Shutdown,
}

/// The place where an API server is, or is not.
pub struct Api {
    store: Arc<dyn Store>,
    current: Mutex<Option<Running>>,
}

impl Api {
    /// No server yet.
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, current: Mutex::default() })
    }

    /// The store below all servers.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The server, when one runs.
    pub fn current(&self) -> Option<Running> {
        self.current.lock().clone()
    }

    /// Starts a server over the store; it takes requests when this returns.
    ///
    /// # Errors
    /// It cannot be put together.
    pub async fn start(&self) -> anyhow::Result<()> {
        let down = Shutdown::new();
        let handle = assemble(self.store.clone(), down.child()).await?;
        rt::time::timeout(Duration::from_secs(60), handle.started()).await.context("the API server does not start")?;
        *self.current.lock() = Some(Running { handle, down });
        Ok(())
    }

    /// Kills the server: requests and watches under way break, at whichever point they are.
    pub fn kill(&self) {
        if let Some(running) = self.current.lock().take() {
            running.down.cancel();
        }
    }
}

async fn assemble(store: Arc<dyn Store>, shutdown: Shutdown) -> anyhow::Result<Handle> {
    let cidr = SERVICES.parse::<kinds::Cidr>().map_err(|e| anyhow::anyhow!("service range: {e}"))?;
    let registry = Registry::new(store, shutdown.clone());
    let rows = kinds::Config::new(ServiceRanges { cluster_ips: vec![cidr], node_ports: NODE_PORTS });
    for row in kinds::kinds(&rows) {
        registry.add(row);
    }
    let access = Access::new(registry.clone());
    let lookup: Arc<dyn Lookup> = Arc::new(access.clone());
    let edit: Arc<dyn Edit> = Arc::new(access);
    let authorizers = Arc::new(Authorizers::start(&[Member::AlwaysAllow], &lookup, &shutdown));
    let plugins = admission::select(&[], &[]).map_err(anyhow::Error::msg)?;
    let deps = Deps {
        api: edit,
        authorizer: Some(authorizers.clone()),
        escalation: None,
        webhooks: None,
        // Short, so that pods leave silent nodes while a seed runs.
        settings: Settings {
            not_ready_toleration_seconds: 60,
            unreachable_toleration_seconds: 60,
            ..Settings::default()
        },
    };
    let chain = Chain::new(&plugins, deps).map_err(anyhow::Error::msg)?;
    registry.set_admit(Arc::new(chain));
    let authenticator = Arc::new(authn::Config::default().build());
    let mut config = Config::new(registry, authenticator, authorizers, shutdown);
    config.advertise = Some(ADDRESS);
    config.kubernetes_service_ip = Some(SERVICE_IP);
    config.service_cidrs = vec![SERVICES.to_owned()];
    config.priority_and_fairness = false;
    // The faults compact, and much sooner.
    config.compaction_interval = Duration::ZERO;
    Ok(Server::start(config).await?)
}
