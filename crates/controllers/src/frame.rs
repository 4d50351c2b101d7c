//! What every controller is given, and what runs them all.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use futures::FutureExt;
use informer::{Factory, Recorder};
use rt::{Backoff, Shutdown};

use crate::table::{CONTROLLERS, Entry};

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

/// Whether a controller is asked for.
fn wanted(entry: &Entry, list: &[String]) -> bool {
    let (mut star, mut answer) = (false, None);
    for item in list {
        match item.strip_prefix('-') {
            Some(name) if name == entry.name => answer = Some(false),
            None if item == entry.name => answer = Some(true),
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

async fn supervise(entry: &'static Entry, context: Context) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60)).with_jitter(0.2);
    while !context.shutdown.is_cancelled() {
        let mut attempt = context.clone();
        attempt.shutdown = context.shutdown.child();
        let stop = attempt.shutdown.clone();
        if AssertUnwindSafe((entry.start)(attempt)).catch_unwind().await.is_err() {
            tracing::error!(controller = entry.name, "controller panicked");
        }
        stop.cancel();
        if context.shutdown.is_cancelled() {
            return;
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
