//! Health: of the proxy itself, and of each load balancer that sends only to nodes with endpoints.

use crate::model::ServiceName;
use crate::planner::Planner;
use crate::server::answer;
use async_trait::async_trait;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use rt::Shutdown;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::{Body, ConnInfo};

struct State {
    queued: Option<Instant>,
    synced: bool,
    eligible: bool,
}

/// The proxy's own health: a change must not wait longer than twice the sync period, and the node must not be leaving.
pub struct ProxyHealth {
    state: Mutex<State>,
    limit: Duration,
}

impl ProxyHealth {
    /// Not healthy before the first sync.
    pub fn new(sync_period: Duration) -> Self {
        Self { state: Mutex::new(State { queued: None, synced: false, eligible: true }), limit: sync_period * 2 }
    }

    /// A change waits to be written.
    pub fn queued(&self) {
        self.state.lock().queued.get_or_insert_with(Instant::now);
    }

    /// Everything that waited before `since` is written.
    pub fn synced(&self, since: Instant) {
        let mut state = self.state.lock();
        state.synced = true;
        if state.queued.is_some_and(|at| at <= since) {
            state.queued = None;
        }
    }

    /// Whether the node may get traffic from load balancers.
    pub fn set_eligible(&self, eligible: bool) {
        self.state.lock().eligible = eligible;
    }

    /// `/livez`: changes are written in time.
    pub fn live(&self) -> bool {
        let state = self.state.lock();
        state.synced && state.queued.is_none_or(|at| at.elapsed() < self.limit)
    }

    /// `/healthz`: live, and the node stays. Second: whether the node stays.
    pub fn healthy(&self) -> (bool, bool) {
        let eligible = self.state.lock().eligible;
        (self.live() && eligible, eligible)
    }
}

/// A load balancer's health check port.
struct Check {
    service: ServiceName,
    local: Arc<Mutex<usize>>,
    proxy: Arc<ProxyHealth>,
}

#[async_trait]
impl wire::Service for Check {
    async fn call(&self, _request: Request<Body>, _connection: Arc<ConnInfo>) -> Response<Body> {
        let local = *self.local.lock();
        let healthy = self.proxy.healthy().0;
        let status = if local > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let body = serde_json::json!({
            "service": { "namespace": self.service.namespace, "name": self.service.name },
            "localEndpoints": local,
            "serviceProxyHealthy": healthy,
        });
        let mut response = answer(status, "application/json", body.to_string());
        let headers = response.headers_mut();
        headers.insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
        headers.insert("x-load-balancing-endpoint-weight", http::HeaderValue::from(local));
        response
    }
}

struct Running {
    port: u16,
    local: Arc<Mutex<usize>>,
    stop: Shutdown,
}

/// The servers behind `healthCheckNodePort`s, kept equal to the Services.
pub struct HealthChecks {
    proxy: Arc<ProxyHealth>,
    addresses: Vec<IpAddr>,
    running: BTreeMap<ServiceName, Running>,
    shutdown: Shutdown,
}

impl HealthChecks {
    /// Listening on these addresses.
    pub fn new(proxy: Arc<ProxyHealth>, addresses: Vec<IpAddr>, shutdown: Shutdown) -> Self {
        Self { proxy, addresses, running: BTreeMap::new(), shutdown }
    }

    /// Starts and stops servers, and tells them how many endpoints are here.
    pub async fn sync(&mut self, wanted: &BTreeMap<ServiceName, (u16, usize)>) {
        self.running.retain(|name, running| {
            let keep = wanted.get(name).is_some_and(|(port, _)| *port == running.port);
            if !keep {
                running.stop.cancel();
            }
            keep
        });
        for (name, (port, local)) in wanted {
            if let Some(running) = self.running.get(name) {
                *running.local.lock() = *local;
                continue;
            }
            let count = Arc::new(Mutex::new(*local));
            let stop = self.shutdown.child();
            let service = Arc::new(Check { service: name.clone(), local: count.clone(), proxy: self.proxy.clone() });
            let mut bound = 0;
            for ip in &self.addresses {
                match wire::bind(SocketAddr::new(*ip, *port), None).await {
                    Ok(listener) => {
                        rt::spawn("health-check", wire::serve(listener, service.clone(), stop.clone()));
                        bound += 1;
                    }
                    Err(error) => {
                        tracing::error!(service = %name, port, %ip, %error, "could not open the health check port")
                    }
                }
            }
            // Not remembered when it failed, so that the next sync tries again.
            if bound > 0 {
                self.running.insert(name.clone(), Running { port: *port, local: count, stop });
            }
        }
    }
}

/// Ports and local ready endpoints of all Services with a health check port.
pub fn wanted(planners: &[Planner], node: &str) -> BTreeMap<ServiceName, (u16, usize)> {
    let mut out = BTreeMap::new();
    let Some(first) = planners.first() else { return out };
    for (name, service) in first.services().iter().filter(|(_, s)| s.health_check_node_port != 0) {
        let mut local: BTreeSet<IpAddr> = BTreeSet::new();
        for slice in planners.iter().flat_map(|p| p.slices_of(name)) {
            local.extend(slice.endpoints.iter().filter(|e| e.ready && e.node == node).map(|e| e.ip));
        }
        out.insert(name.clone(), (service.health_check_node_port, local.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_follows_syncs_and_the_node() {
        let health = ProxyHealth::new(Duration::ZERO);
        assert!(!health.live(), "never synced");
        health.synced(Instant::now());
        assert_eq!(health.healthy(), (true, true));
        let before = Instant::now();
        health.queued();
        assert!(!health.live(), "with no period every wait is too long");
        health.synced(before - Duration::from_secs(1));
        assert!(!health.live(), "the change came after that sync began");
        health.synced(Instant::now());
        health.set_eligible(false);
        assert_eq!((health.live(), health.healthy()), (true, (false, false)));
    }
}
