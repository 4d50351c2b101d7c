//! The running proxy: informers in, syncs out.
//!
//! The first change is written at once. While a sync runs, changes gather; the next one waits for a few times what the
//! last one took (or `min_sync_period` if that was asked for), so that a storm of changes costs a bounded share of a
//! processor and a single change costs no delay at all.

use crate::convert;
use crate::engine::{Engine, Error, Synced, families};
use crate::health::{HealthChecks, ProxyHealth, wanted};
use crate::metrics::Metrics;
use crate::model::{Family, LocalDetector, Service, ServiceName, Settings, Slice};
use crate::node::{NodeFacts, addresses_in};
use crate::server::{Healthz, MetricsServer};
use api::Kind;
use api::k8s::core::v1 as core;
use api::k8s::discovery::v1::EndpointSlice;
use api::k8s::networking::v1::ServiceCIDR;
use client::Client;
use informer::{Delta, Factory, Informer, Scope};
use ipnet::IpNet;
use parking_lot::Mutex;
use rt::Shutdown;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How pods' traffic is told from other traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DetectLocal {
    /// It cannot be told.
    #[default]
    None,
    /// By the cluster's pod ranges, one per family.
    ClusterCidr(Vec<IpNet>),
    /// By this node's podCIDRs.
    NodeCidr,
    /// By the bridge.
    Bridge(String),
    /// By the interfaces' prefix.
    InterfacePrefix(String),
}

/// Which addresses accept node ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodePortAddresses {
    /// All of the node's.
    #[default]
    All,
    /// The Node object's own.
    Primary,
    /// Those in these prefixes; a family without a prefix accepts all.
    Within(Vec<IpNet>),
}

/// The proxy's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's name.
    pub node_name: String,
    /// This node's addresses; the Node object's when empty.
    pub node_ips: Vec<IpAddr>,
    /// Masquerade all that goes to ClusterIPs.
    pub masquerade_all: bool,
    /// Bit of the mark for masquerading.
    pub masquerade_bit: u32,
    /// How pods' traffic is told.
    pub detect_local: DetectLocal,
    /// Service ranges, known beforehand; those of ServiceCIDR objects are added with `watch_service_cidrs`.
    pub service_cidrs: Vec<IpNet>,
    /// Whether to watch ServiceCIDR objects.
    pub watch_service_cidrs: bool,
    /// Where node ports answer.
    pub node_port_addresses: NodePortAddresses,
    /// Node ports on 127.0.0.1.
    pub localhost_node_ports: bool,
    /// Least time between syncs; zero lets the proxy choose by what a sync takes.
    pub min_sync_period: Duration,
    /// Time after which a failed sync is tried again; twice that is unhealthy.
    pub sync_period: Duration,
    /// `/healthz`.
    pub healthz_address: Option<SocketAddr>,
    /// `/metrics`.
    pub metrics_address: Option<SocketAddr>,
    /// Fail when one of the two addresses is taken, instead of going on without.
    pub bind_hard_fail: bool,
    /// Shown at `/configz`.
    pub configz: serde_json::Value,
}

impl Config {
    /// kube-proxy's defaults for a node.
    pub fn new(node_name: impl Into<String>) -> Self {
        Self {
            node_name: node_name.into(),
            node_ips: Vec::new(),
            masquerade_all: false,
            masquerade_bit: 14,
            detect_local: DetectLocal::None,
            service_cidrs: Vec::new(),
            watch_service_cidrs: true,
            node_port_addresses: NodePortAddresses::All,
            localhost_node_ports: true,
            min_sync_period: Duration::ZERO,
            sync_period: Duration::from_secs(30),
            healthz_address: Some((Ipv4Addr::UNSPECIFIED, 10256).into()),
            metrics_address: Some((Ipv4Addr::LOCALHOST, 10249).into()),
            bind_hard_fail: false,
            configz: serde_json::json!({ "kubeproxy.config.k8s.io": { "mode": "nftables" } }),
        }
    }
}

/// Changes that wait: at most one per object.
#[derive(Default)]
struct Pending {
    services: HashMap<ServiceName, Option<Service>>,
    slices: HashMap<String, Option<Slice>>,
    node: Option<NodeFacts>,
    service_cidrs: Option<BTreeMap<String, Vec<IpNet>>>,
}

struct Inbox {
    pending: Mutex<Pending>,
    cidrs: Mutex<BTreeMap<String, Vec<IpNet>>>,
    wake: Notify,
    health: Arc<ProxyHealth>,
    metrics: Arc<Metrics>,
}

/// A proxy attached to informers, not yet running.
pub struct Runner {
    config: Config,
    services: Informer<core::Service>,
    slices: Informer<EndpointSlice>,
    node: Informer<core::Node>,
    inbox: Arc<Inbox>,
}

fn gone<T>(delta: &Delta<T>) -> bool {
    matches!(delta, Delta::Deleted(_))
}

/// Registers the proxy's handlers with a factory, which the caller starts (before or after).
pub fn attach(config: Config, factory: &Factory) -> Runner {
    let shared = Arc::new(Inbox {
        pending: Mutex::default(),
        cidrs: Mutex::default(),
        wake: Notify::new(),
        health: Arc::new(ProxyHealth::new(config.sync_period)),
        metrics: Arc::new(Metrics::default()),
    });
    let services = factory.informer::<core::Service>();
    let to = shared.clone();
    services.add_handler(move |delta| {
        let value = if gone(delta) { None } else { convert::service(delta.object()) };
        to.metrics.count("kubeproxy_sync_proxy_rules_service_changes_total", 1);
        to.push(|p| drop(p.services.insert(convert::service_name(delta.object()), value)));
    });
    let slices = factory.informer::<EndpointSlice>();
    let to = shared.clone();
    slices.add_handler(move |delta| {
        let value = if gone(delta) { None } else { convert::slice(delta.object()) };
        to.metrics.count("kubeproxy_sync_proxy_rules_endpoint_changes_total", 1);
        to.push(|p| drop(p.slices.insert(delta.object().key(), value)));
    });
    let node = factory.scoped::<core::Node>(Scope {
        field_selector: format!("metadata.name={}", config.node_name),
        ..Default::default()
    });
    let to = shared.clone();
    node.add_handler(move |delta| {
        let mut facts = NodeFacts::of(delta.object());
        facts.eligible &= !gone(delta);
        // Heartbeats change nothing that the proxy needs.
        if let Delta::Updated { old, .. } = delta
            && NodeFacts::of(old) == facts
        {
            return;
        }
        to.push(|p| p.node = Some(facts));
    });
    if config.watch_service_cidrs {
        let to = shared.clone();
        factory.informer::<ServiceCIDR>().add_handler(move |delta| to.service_cidr(delta));
    }
    Runner { config, services, slices, node, inbox: shared }
}

impl Inbox {
    fn push(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock());
        self.metrics.queued();
        self.health.queued();
        self.wake.notify_one();
    }

    fn service_cidr(&self, delta: &Delta<ServiceCIDR>) {
        let object = delta.object();
        let texts = object.spec.as_ref().and_then(|s| s.cidrs.as_deref()).unwrap_or_default();
        let mut all = self.cidrs.lock();
        if gone(delta) {
            all.remove(object.name());
        } else {
            all.insert(object.name().to_owned(), texts.iter().filter_map(|c| c.parse().ok()).collect());
        }
        let snapshot = all.clone();
        drop(all);
        self.push(|p| p.service_cidrs = Some(snapshot));
    }
}

/// Runs a proxy with informers of its own until shutdown.
///
/// # Errors
/// When nf_tables cannot be used, or an address is taken and that is fatal.
pub async fn run(config: Config, client: Client, shutdown: Shutdown) -> Result<(), Error> {
    let factory = Factory::new(client);
    let runner = attach(config, &factory);
    factory.start(&shutdown);
    runner.run(shutdown).await
}

/// Time that syncs have taken, forgiven as time goes by.
#[derive(Default)]
struct Budget {
    spent: Duration,
    at: Option<Instant>,
}

impl Budget {
    /// What may be spent at once.
    const BURST: Duration = Duration::from_millis(100);
    /// One part in this many of the time is forgiven.
    const SHARE: u32 = 5;
    const MOST: Duration = Duration::from_secs(1);

    /// Notes what a sync took; gives how long the next one should wait.
    fn spend(&mut self, now: Instant, took: Duration) -> Duration {
        let gone = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.spent = self.spent.saturating_sub(gone / Self::SHARE) + took;
        self.at = Some(now);
        (self.spent.saturating_sub(Self::BURST) * Self::SHARE).min(Self::MOST)
    }
}

/// The engine and its last result, moved to a blocking thread and back.
struct Work {
    engine: Engine,
    batch: Pending,
    config: Config,
}

impl Runner {
    /// Runs until shutdown; rules stay in place then, so that a restart interrupts nothing.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Error> {
        self.serve(&shutdown).await?;
        let Some(()) = shutdown.run(self.synced()).await else { return Ok(()) };
        let settings = self.settings();
        // The first table is made from everything that has been listed.
        let mut engine = Some(Engine::open(settings)?);
        let addresses = vec![IpAddr::from(Ipv4Addr::UNSPECIFIED)];
        let mut checks =
            HealthChecks::new(self.inbox.health.clone(), self.health_addresses(addresses), shutdown.clone());
        let mut budget = Budget::default();
        loop {
            let begun = Instant::now();
            let batch = std::mem::take(&mut *self.inbox.pending.lock());
            let Some(current) = engine.take() else { return Ok(()) };
            if let Some(node) = &batch.node {
                self.inbox.health.set_eligible(node.eligible);
            }
            let work = Work { engine: current, batch, config: self.config.clone() };
            let Ok((done, back)) = rt::spawn_blocking(move || work.run()).await else {
                return Err(Error::Config("the sync panicked".into()));
            };
            let took = begun.elapsed();
            self.note(&done, begun, took, back.planners());
            checks.sync(&wanted(back.planners(), &self.config.node_name)).await;
            let cleanup = back.next_cleanup();
            engine = Some(back);
            let pause = self.pause(&mut budget, took, done.full);
            if shutdown.run(self.next(begun + took + pause, cleanup, !done.ok)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// The least time to the next sync. Without a period of the user's, single changes are written at once; only where
    /// syncs took more than a fifth of the time lately, changes gather.
    fn pause(&self, budget: &mut Budget, took: Duration, full: bool) -> Duration {
        match (self.config.min_sync_period.is_zero(), full) {
            // Making a whole table is rare and says nothing about what changes cost.
            (true, true) => Duration::ZERO,
            (true, false) => budget.spend(Instant::now(), took),
            (false, _) => self.config.min_sync_period,
        }
    }

    /// Waits for a change (and until the pause is over), for stale chains to be due, or for the retry of a failure.
    async fn next(&self, not_before: Instant, cleanup: Option<Instant>, retry: bool) {
        let far = Instant::now() + Duration::from_secs(24 * 3600);
        let mut due = cleanup.unwrap_or(far);
        if retry {
            // Upstream waits for the sync period; a second is enough to not spin and heals sooner.
            due = due.min(Instant::now() + Duration::from_secs(1));
        }
        tokio::select! {
            () = self.inbox.wake.notified() => tokio::time::sleep_until(not_before.into()).await,
            () = tokio::time::sleep_until(due.into()) => {}
        }
    }

    fn note(&self, done: &Synced, begun: Instant, took: Duration, planners: &[crate::planner::Planner]) {
        let metrics = &self.inbox.metrics;
        metrics.synced(took, done.full);
        if done.cleanup_failed {
            metrics.count("kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total", 1);
        }
        if !done.ok {
            metrics.count("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", 1);
            return;
        }
        self.inbox.health.synced(begun);
        let (internal, external) =
            planners.iter().map(crate::planner::Planner::no_local).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        metrics.gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\"}",
            f64::from(internal),
        );
        metrics.gauge(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"external\"}",
            f64::from(external),
        );
        tracing::debug!(full = done.full, services = done.services, took_us = took.as_micros() as u64, "synced");
    }

    /// Services and slices must be known before anything is written; the Node is waited for a while only, unless its
    /// podCIDR is needed.
    async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        let limit = Duration::from_secs(30);
        if rt::time::timeout(limit, self.node.synced()).await.is_err() {
            tracing::warn!(node = self.config.node_name, "the Node is not known; going on without its addresses");
        }
        if self.config.detect_local == DetectLocal::NodeCidr {
            let known = async {
                while self.inbox.pending.lock().node.as_ref().is_none_or(|n| n.pod_cidrs.is_empty()) {
                    self.inbox.wake.notified().await;
                }
            };
            if rt::time::timeout(Duration::from_secs(300), known).await.is_err() {
                tracing::warn!("the Node has no podCIDR; local traffic cannot be told");
            }
        }
    }

    fn settings(&self) -> Vec<Settings> {
        let base = families().into_iter().map(|family| Settings {
            masquerade_all: self.config.masquerade_all,
            masquerade_mark: 1 << self.config.masquerade_bit,
            localhost_node_ports: self.config.localhost_node_ports,
            ..Settings::new(family, self.config.node_name.clone())
        });
        base.map(|mut s| {
            apply_config(&mut s, &self.config, None, None);
            s
        })
        .collect()
    }

    /// Where health check ports listen: everywhere, in both families where both are there.
    fn health_addresses(&self, default: Vec<IpAddr>) -> Vec<IpAddr> {
        match &self.config.node_port_addresses {
            NodePortAddresses::All => {
                // A socket on :: takes IPv4 too.
                if families().contains(&Family::Ip6) { vec![Ipv6Addr::UNSPECIFIED.into()] } else { default }
            }
            NodePortAddresses::Primary if !self.config.node_ips.is_empty() => self.config.node_ips.clone(),
            NodePortAddresses::Primary => default,
            NodePortAddresses::Within(prefixes) => addresses_in(prefixes).unwrap_or(default),
        }
    }

    async fn serve(&self, shutdown: &Shutdown) -> Result<(), Error> {
        let metrics = self.inbox.metrics.clone();
        let healthz: Arc<dyn wire::Service> =
            Arc::new(Healthz { health: self.inbox.health.clone(), metrics: metrics.clone() });
        let other: Arc<dyn wire::Service> = Arc::new(MetricsServer { metrics, configz: self.config.configz.clone() });
        for (address, service) in [(self.config.healthz_address, healthz), (self.config.metrics_address, other)] {
            let Some(address) = address else { continue };
            match wire::bind(address, None).await {
                Ok(bound) => drop(rt::spawn("proxy-http", wire::serve(bound, service, shutdown.clone()))),
                Err(source) if self.config.bind_hard_fail => {
                    return Err(Error::Listen { address: address.to_string(), source });
                }
                Err(error) => tracing::error!(%address, %error, "could not listen"),
            }
        }
        Ok(())
    }
}

impl Work {
    fn run(mut self) -> (Synced, Engine) {
        for (name, service) in &self.batch.services {
            self.engine.set_service(name, service.as_ref());
        }
        for (name, slice) in &self.batch.slices {
            self.engine.set_slice(name, slice.as_ref());
        }
        if self.batch.node.is_some() || self.batch.service_cidrs.is_some() {
            let cidrs: Option<Vec<IpNet>> =
                self.batch.service_cidrs.as_ref().map(|all| all.values().flatten().copied().collect());
            self.engine.update_settings(|s| apply_config(s, &self.config, self.batch.node.as_ref(), cidrs.as_deref()));
        }
        (self.engine.sync(), self.engine)
    }
}

/// What the configuration, the Node and the ServiceCIDRs say about a family.
fn apply_config(s: &mut Settings, config: &Config, node: Option<&NodeFacts>, cidrs: Option<&[IpNet]>) {
    let family = s.family;
    let first = |nets: &[IpNet]| nets.iter().copied().find(|n| Family::of(n.addr()) == family);
    let mut ips = config.node_ips.clone();
    if let Some(node) = node {
        s.zone.clone_from(&node.zone);
        if ips.is_empty() {
            ips.clone_from(&node.ips);
        }
    }
    if !ips.is_empty() {
        s.node_ip = ips.iter().copied().find(|ip| Family::of(*ip) == family);
    }
    match &config.detect_local {
        DetectLocal::None => {}
        DetectLocal::ClusterCidr(nets) => s.detector = first(nets).map_or(LocalDetector::None, LocalDetector::Cidr),
        DetectLocal::NodeCidr => {
            if let Some(net) = node.and_then(|n| first(&n.pod_cidrs)) {
                s.detector = LocalDetector::Cidr(net);
            }
        }
        DetectLocal::Bridge(name) => s.detector = LocalDetector::Bridge(name.clone()),
        DetectLocal::InterfacePrefix(prefix) => s.detector = LocalDetector::InterfacePrefix(prefix.clone()),
    }
    if node.is_none() && cidrs.is_none() || cidrs.is_some() {
        let mut nets: Vec<IpNet> = config.service_cidrs.clone();
        nets.extend(cidrs.unwrap_or_default());
        nets.retain(|n| Family::of(n.addr()) == family);
        nets.sort();
        nets.dedup();
        s.service_cidrs = nets;
    }
    s.node_port_ips = match &config.node_port_addresses {
        NodePortAddresses::All => None,
        NodePortAddresses::Primary if ips.is_empty() => s.node_port_ips.take(),
        NodePortAddresses::Primary => Some(ips),
        NodePortAddresses::Within(prefixes) if first(prefixes).is_none() => None,
        NodePortAddresses::Within(prefixes) => match addresses_in(prefixes) {
            Ok(found) => Some(found),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "could not list the node's addresses");
                s.node_port_ips.take()
            }
        },
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_changes_do_not_wait_and_floods_do() {
        let (mut budget, mut now) = (Budget::default(), Instant::now());
        let took = Duration::from_millis(10);
        for _ in 0..10 {
            assert_eq!(budget.spend(now, took), Duration::ZERO);
        }
        assert_eq!(budget.spend(now, took), Duration::from_millis(50));
        now += Duration::from_secs(1);
        assert_eq!(budget.spend(now, took), Duration::ZERO);
        assert_eq!(budget.spend(now, Duration::from_secs(9)), Duration::from_secs(1));
    }
}
