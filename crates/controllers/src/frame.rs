//! What every controller is given, and what runs them all.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use futures::FutureExt;
use informer::{Factory, Recorder};
use parking_lot::Mutex;
use rt::{Backoff, Shutdown};

use crate::table::{ABSENT, ALIASES, CONTROLLERS, Entry};

/// What concerns the cluster as a whole.
#[derive(Debug, Clone)]
pub struct Options {
    /// Names to run: `*` for those on by default, `name` adds, `-name` removes (upstream's `--controllers`).
    pub controllers: Vec<String>,
    /// Certificate authority that `kube-root-ca.crt` publishes, in PEM.
    pub root_ca_pem: Option<String>,
    /// Pod networks, one per family; node IPAM is off when empty.
    pub cluster_cidrs: Vec<String>,
    /// Prefix length of a node's share per family (IPv4, IPv6).
    pub node_cidr_mask: (u8, u8),
    /// Workers per controller.
    pub workers: usize,
    /// Workers of single controllers, by name.
    pub workers_of: Vec<(&'static str, usize)>,
    /// Private key that signs service account tokens, in PEM; without it no token secrets are filled.
    pub service_account_key_pem: Option<String>,
    /// Whether each service account gets a token secret, as until v1.23: the workshop.
    pub token_secrets: bool,
    /// Certificate and key, in PEM, that sign certificate requests; without it none is signed.
    pub signer_pem: Option<(String, String)>,
    /// The longest life of signed certificates.
    pub signing_duration: Duration,
    /// How long a node may be silent.
    pub node_monitor_grace: Duration,
    /// How often nodes are looked at for silence.
    pub node_monitor_period: Duration,
    /// How many ended pods are kept.
    pub terminated_pod_threshold: Option<usize>,
    /// How fast nodes are emptied.
    pub eviction: EvictionRates,
    /// What horizontal pod autoscalers go by.
    pub autoscaler: AutoscalerOptions,
    /// How long a legacy token must be unused before it is marked, and marked before it goes.
    pub legacy_token_cleanup: Duration,
    /// Whether there are groups of pods (the gate GenericWorkload).
    pub pod_groups: bool,
    /// Whether jobs that run all of their pods at once are made such groups (the gate WorkloadWithJob).
    pub job_gangs: bool,
    /// Where the built-in provisioner makes volumes; none without it.
    pub local_path: Option<LocalPath>,
    /// Told which controllers run.
    pub health: Health,
}

/// Which controllers run. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, bool>>>);

impl Health {
    /// Notes whether a controller runs.
    pub(crate) fn set(&self, name: &'static str, running: bool) {
        self.0.lock().insert(name, running);
    }

    /// All controllers that were asked for, and whether each runs.
    pub fn all(&self) -> Vec<(&'static str, bool)> {
        self.0.lock().iter().map(|(name, running)| (*name, *running)).collect()
    }
}

/// What the built-in volume provisioner goes by.
#[derive(Debug, Clone)]
pub struct LocalPath {
    /// Directory of a node's volumes; `{node}` stands for the node's name.
    pub directory: String,
    /// Image whose program can make and remove directories (`corten volume-helper`).
    pub image: String,
}

/// What horizontal pod autoscalers go by (upstream's `--horizontal-pod-autoscaler-*`).
#[derive(Debug, Clone)]
pub struct AutoscalerOptions {
    /// How often each is looked at.
    pub sync_period: Duration,
    /// For how long a recommendation holds a target up.
    pub downscale_stabilization: Duration,
    /// How far from its target a metric may be before anything is done.
    pub tolerance: f64,
    /// For how long after its start a pod's CPU readings are doubted.
    pub cpu_initialization: Duration,
    /// For how long after its start a pod counts as never having been ready.
    pub initial_readiness: Duration,
    /// Feature gate `HPAScaleToZero`.
    pub scale_to_zero: bool,
}

impl Default for AutoscalerOptions {
    fn default() -> Self {
        Self {
            sync_period: Duration::from_secs(15),
            downscale_stabilization: Duration::from_secs(300),
            tolerance: 0.1,
            cpu_initialization: Duration::from_secs(300),
            initial_readiness: Duration::from_secs(30),
            scale_to_zero: false,
        }
    }
}

/// How many nodes per second get the taints that empty them.
#[derive(Debug, Clone)]
pub struct EvictionRates {
    /// In a healthy zone.
    pub healthy: f32,
    /// In an unhealthy zone.
    pub unhealthy: f32,
    /// Share of silent nodes that makes a zone unhealthy.
    pub threshold: f32,
    /// A zone up to this size that is unhealthy is not emptied at all.
    pub large: usize,
}

impl Default for EvictionRates {
    fn default() -> Self {
        Self { healthy: 0.1, unhealthy: 0.01, threshold: 0.55, large: 50 }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controllers: vec!["*".into()],
            root_ca_pem: None,
            cluster_cidrs: Vec::new(),
            node_cidr_mask: (24, 64),
            workers: 5,
            workers_of: Vec::new(),
            service_account_key_pem: None,
            token_secrets: false,
            signer_pem: None,
            signing_duration: Duration::from_secs(365 * 24 * 3600),
            node_monitor_grace: Duration::from_secs(50),
            node_monitor_period: Duration::from_secs(5),
            terminated_pod_threshold: Some(12_500),
            eviction: EvictionRates::default(),
            autoscaler: AutoscalerOptions::default(),
            legacy_token_cleanup: Duration::from_secs(365 * 24 * 3600),
            pod_groups: false,
            job_gangs: false,
            local_path: None,
            health: Health::default(),
        }
    }
}

/// What a controller is given.
#[derive(Clone)]
pub struct Context {
    /// Calls under the controller's own service account.
    pub client: Client,
    /// Caches shared by all controllers.
    pub factory: Factory,
    /// Records events as the controller.
    pub recorder: Recorder,
    /// Options.
    pub options: Arc<Options>,
    /// Ends the controller.
    pub shutdown: Shutdown,
}

/// A controller's name for an old one.
fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name)
}

/// Checks names as `--controllers` gives them.
///
/// # Errors
/// The first name that nobody knows, in upstream's words.
pub fn check_names(list: &[String]) -> Result<(), String> {
    for item in list.iter().filter(|item| *item != "*") {
        let name = canonical(item.strip_prefix('-').unwrap_or(item));
        if !CONTROLLERS.iter().any(|entry| entry.name == name) && !ABSENT.contains(&name) {
            return Err(format!("{name:?} is not in the list of known controllers"));
        }
    }
    Ok(())
}

/// Whether a controller is asked for.
fn wanted(entry: &Entry, list: &[String]) -> bool {
    let (mut star, mut answer) = (false, None);
    for item in list {
        match item.strip_prefix('-') {
            Some(name) if canonical(name) == entry.name => answer = Some(false),
            None if canonical(item) == entry.name => answer = Some(true),
            None if item == "*" => star = true,
            _ => {}
        }
    }
    answer.unwrap_or(star && entry.default)
}

/// Runs the controllers asked for until told to stop. Each runs on its own: one that ends or panics is
/// started again after a back-off, and the others do not notice.
///
/// `client_for` gives the client of a controller's service account.
pub async fn run(options: Options, factory: Factory, client_for: impl Fn(&str) -> Client, shutdown: Shutdown) {
    let mut tasks = Vec::new();
    for entry in CONTROLLERS.iter().filter(|entry| wanted(entry, &options.controllers)) {
        let client = client_for(entry.service_account);
        let recorder = Recorder::start(client.clone(), entry.component, None, shutdown.clone());
        let mut options = options.clone();
        if let Some((_, workers)) = options.workers_of.iter().find(|(name, _)| *name == entry.name) {
            options.workers = *workers;
        }
        let context = Context {
            client,
            factory: factory.clone(),
            recorder,
            options: Arc::new(options),
            shutdown: shutdown.child(),
        };
        tasks.push(rt::spawn(entry.name, supervise(entry, context)));
    }
    factory.start(&shutdown);
    for task in tasks {
        // A supervisor ends only by the shutdown.
        let _ = task.await;
    }
}

/// A controller that ran so long has earned a quick start.
const STEADY: Duration = Duration::from_secs(300);

/// Upstream's metric of running controllers.
fn running(name: &str, count: i64) {
    let help = "Track the number of controllers of each name that are currently running";
    let gauge = telemetry::metrics::gauge_vec("running_managed_controllers", help, &["manager", "name"]);
    gauge.with(&["kube-controller-manager", name]).set(count);
}

async fn supervise(entry: &'static Entry, context: Context) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60)).with_jitter(0.2);
    while !context.shutdown.is_cancelled() {
        let mut attempt = context.clone();
        attempt.shutdown = context.shutdown.child();
        let stop = attempt.shutdown.clone();
        let health = context.options.health.clone();
        health.set(entry.name, true);
        running(entry.name, 1);
        let began = rt::time::Instant::now();
        if AssertUnwindSafe((entry.start)(attempt)).catch_unwind().await.is_err() {
            tracing::error!(controller = entry.name, "controller panicked");
        }
        stop.cancel();
        running(entry.name, 0);
        if context.shutdown.is_cancelled() {
            return;
        }
        health.set(entry.name, false);
        if began.elapsed() > STEADY {
            backoff.reset();
        }
        tracing::warn!(controller = entry.name, "controller ended, starting it again");
        context.shutdown.run(rt::time::sleep(backoff.next_delay())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_as_upstream() {
        let entry = |name, default| Entry {
            name,
            service_account: "x",
            component: "x",
            default,
            start: |_| Box::pin(async {}),
        };
        for (list, name, default, want) in [
            ("*", "a", true, true),
            ("*", "a", false, false),
            ("*,a", "a", false, true),
            ("*,-a", "a", true, false),
            ("b", "a", true, false),
        ] {
            let list: Vec<String> = list.split(',').map(str::to_owned).collect();
            assert_eq!(wanted(&entry(name, default), &list), want, "{list:?}");
        }
    }
}
