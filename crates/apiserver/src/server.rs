//! The running server and the entries into it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_api::UserInfo;
use http::{Request, Response};
use parking_lot::{Mutex, RwLock};
use registry::Registry;
use rt::Backoff;
use rt::sync::{Notify, Semaphore};
use tracing::{info, warn};
use wire::{Body, ConnInfo, Service};

use crate::chain;
use crate::config::{Config, PostStart};
use crate::discovery::Discovery;
use crate::kubelet::Kubelets;
use crate::metrics::Metrics;

/// State shared by all requests.
pub(crate) struct State {
    pub registry: Arc<Registry>,
    pub config: Config,
    pub discovery: Discovery,
    pub kubelets: Kubelets,
    pub metrics: Metrics,
    pub readonly: Semaphore,
    pub mutating: Semaphore,
    /// Priority and fairness, when it is on.
    pub flow: Option<Arc<crate::flow::FlowControl>>,
    /// Hooks with whether they are done.
    pub hooks: RwLock<Vec<(&'static str, Arc<AtomicBool>)>>,
    /// Told whenever a hook is done.
    pub hook_done: Notify,
    pub openapi: crate::openapi::Cache,
    pub aggregator: crate::aggregate::Aggregator,
    /// When this server started, by the clock and by the stopwatch.
    pub started: rt::time::Timestamp,
    pub started_at: rt::time::Instant,
}

/// A running server; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    state: Arc<State>,
    addresses: Vec<SocketAddr>,
    listeners: Arc<Mutex<Vec<rt::JoinHandle<()>>>>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or not allowed.
    #[error("failed to create listener: failed to listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The client certificate for kubelets cannot be used.
    #[error("configure the kubelet client: {0}")]
    Kubelet(String),
}

/// The server.
pub struct Server;

impl Server {
    /// Opens the ports and starts everything; returns when requests are taken (not yet ready: see `/readyz` and
    /// [`Handle::ready`]).
    ///
    /// # Errors
    /// A port cannot be opened, or the configuration cannot be used.
    pub async fn start(mut config: Config) -> Result<Handle, StartError> {
        let hooks = std::mem::take(&mut config.post_start);
        let listen = config.listen.clone();
        let shutdown = config.shutdown.clone();
        let kubelets = Kubelets::new(&config.kubelet).map_err(StartError::Kubelet)?;
        let state = Arc::new(State {
            registry: config.registry.clone(),
            discovery: Discovery::default(),
            kubelets,
            metrics: Metrics::new(),
            readonly: Semaphore::new(limit(config.max_requests_inflight)),
            mutating: Semaphore::new(limit(config.max_mutating_requests_inflight)),
            flow: flow(&config),
            hooks: RwLock::default(),
            hook_done: Notify::new(),
            openapi: crate::openapi::Cache::default(),
            aggregator: crate::aggregate::Aggregator::default(),
            started: rt::time::now(),
            started_at: rt::time::Instant::now(),
            config,
        });
        let (mut addresses, mut listeners) = (Vec::new(), Vec::new());
        for port in listen {
            let bound = wire::bind(port.address, port.tls)
                .await
                .map_err(|source| StartError::Listen { address: port.address, source })?;
            addresses.extend(bound.address());
            let service = Arc::new(Face { state: state.clone(), insecure: port.insecure });
            listeners.push(rt::spawn("listener", wire::serve(bound, service, shutdown.clone())));
        }
        let handle = Handle { state: state.clone(), addresses, listeners: Arc::new(Mutex::new(listeners)) };
        crate::bootstrap::start(&state);
        crate::endpoints::start(&state);
        crate::custom::start(&state);
        crate::flow::start(&state);
        crate::aggregate::start(&state);
        hooks.into_iter().for_each(|hook| run_hook(&state, hook));
        if !state.config.compaction_interval.is_zero() {
            let (store, interval) = (state.registry.store().clone(), state.config.compaction_interval);
            rt::spawn("compactor", registry::compact_forever(store, interval, shutdown));
        }
        info!(addresses = ?handle.addresses, "API server started");
        Ok(handle)
    }
}

fn flow(config: &Config) -> Option<Arc<crate::flow::FlowControl>> {
    let seats = config.max_requests_inflight.saturating_add(config.max_mutating_requests_inflight);
    let wanted = config.priority_and_fairness && seats > 0;
    wanted.then(|| Arc::new(crate::flow::FlowControl::new(seats, config.request_timeout)))
}

fn limit(configured: usize) -> usize {
    if configured == 0 { Semaphore::MAX_PERMITS } else { configured }
}

/// Failures of a post-start hook that nobody is told of.
const QUIET_FAILURES: u32 = 3;

/// Runs a hook until it succeeds; `/readyz` shows it until then.
pub(crate) fn run_hook(state: &Arc<State>, hook: PostStart) {
    let done = Arc::new(AtomicBool::new(false));
    state.hooks.write().push((hook.name, done.clone()));
    let (shutdown, told) = (state.config.shutdown.clone(), state.clone());
    rt::spawn("post-start", async move {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        let mut failures = 0;
        loop {
            let mut other = std::pin::pin!(told.hook_done.notified());
            other.as_mut().enable();
            match shutdown.run((hook.run)()).await {
                None => return,
                Some(Ok(())) => break,
                Some(Err(error)) => {
                    failures += 1;
                    // The system namespaces are made at the same time: the first tries may be too early for them.
                    if failures > QUIET_FAILURES {
                        warn!(hook = hook.name, %error, "post-start hook failed and is tried again");
                    }
                    // Another hook's end may be what this one lacked.
                    rt::select! {
                        () = rt::time::sleep(backoff.next_delay()) => {}
                        () = other.as_mut() => {}
                    }
                }
            }
        }
        done.store(true, Ordering::Release);
        told.hook_done.notify_waiters();
    });
}

struct Face {
    state: Arc<State>,
    insecure: bool,
}

#[async_trait]
impl Service for Face {
    async fn call(&self, request: Request<Body>, connection: Arc<ConnInfo>) -> Response<Body> {
        let identity = if self.insecure { Some(insecure_user()) } else { None };
        chain::run(self.state.clone(), request, connection, identity).await
    }
}

fn insecure_user() -> UserInfo {
    UserInfo::new("system:unsecured", &[auth_api::groups::MASTERS])
}

impl Handle {
    /// Answers a request made in this process as the given user, through everything that a request from a socket goes through
    /// after TLS and authentication.
    pub async fn call(&self, request: Request<Body>, user: UserInfo) -> Response<Body> {
        chain::run(self.state.clone(), request, Arc::new(ConnInfo::default()), Some(user)).await
    }

    /// The addresses listened on, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves a group version beside the registry's kinds.
    pub fn serve_group(&self, group: Arc<dyn crate::aggregate::LocalGroup>) {
        self.state.aggregator.add_local(group);
    }

    /// The storage below.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.state.registry
    }

    /// Waits until all post-start hooks are done: `/readyz` answers ok then, unless the store fails. Cancel-safe.
    pub async fn started(&self) {
        loop {
            let told = self.state.hook_done.notified();
            let mut told = std::pin::pin!(told);
            // Listening before looking, so that a hook that ends in between is not missed.
            told.as_mut().enable();
            if self.state.hooks.read().iter().all(|(_, done)| done.load(Ordering::Acquire)) {
                return;
            }
            told.await;
        }
    }

    /// Waits until the listeners have ended after a shutdown: open requests were given their time.
    pub async fn ended(&self) {
        let listeners = std::mem::take(&mut *self.listeners.lock());
        for listener in listeners {
            // A panic was logged where it happened.
            let _ = listener.await;
        }
    }

    /// Ends the server; open requests get some seconds.
    pub fn shutdown(&self) {
        self.state.config.stopping.cancel();
    }
}
