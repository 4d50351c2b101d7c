//! Probes: one task per probe of a running container; results are kept by container id and wake the pod's worker.

mod grpc;
pub mod http;
mod run;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rt::{HashMap, Shutdown};

use crate::k8s::{Container, Pod, Probe};
use crate::pod::plan::ProbeResults;
use crate::pod::status::Readiness;

pub use run::{Outcome, Runner, port};

/// The three kinds of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Restarts the container.
    Liveness,
    /// Takes it out of Services.
    Readiness,
    /// Holds the other two back.
    Startup,
}

impl Kind {
    /// As upstream's events say it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }
}

#[derive(Default)]
struct Results {
    by_container: HashMap<(String, Kind), bool>,
    running: HashMap<String, Stops>,
}

/// How to end a container's probes: all of them, or those that restart it.
#[derive(Clone)]
struct Stops {
    all: Shutdown,
    restarting: Shutdown,
}

/// All probes of the node.
pub struct Probes {
    runner: Runner,
    shutdown: Shutdown,
    results: Mutex<Results>,
}

/// What one container's probes need to know.
#[derive(Clone)]
pub struct Target {
    /// The pod.
    pub pod: Arc<Pod>,
    /// The container.
    pub container: Container,
    /// Its id.
    pub id: String,
    /// The pod's address.
    pub ip: String,
    /// When the container was started.
    pub started: rt::time::Timestamp,
    /// Whether it was known to have started before this kubelet did.
    pub known_started: bool,
}

impl Probes {
    /// None yet.
    #[must_use]
    pub fn new(runner: Runner, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self { runner, shutdown, results: Mutex::default() })
    }

    /// Starts the probes of a running container, once. `wake` is called when a result changes.
    pub fn start(self: &Arc<Self>, target: Target, wake: impl Fn() + Send + Sync + 'static) {
        let container = &target.container;
        let probes: Vec<(Kind, Probe)> = [
            (Kind::Startup, container.startup_probe.clone()),
            (Kind::Liveness, container.liveness_probe.clone()),
            (Kind::Readiness, container.readiness_probe.clone()),
        ]
        .into_iter()
        .filter_map(|(kind, probe)| probe.map(|p| (kind, p)))
        .collect();
        if probes.is_empty() {
            return;
        }
        let stop = {
            let mut results = self.results.lock();
            if results.running.contains_key(&target.id) {
                return;
            }
            let all = self.shutdown.child();
            let stops = Stops { restarting: all.child(), all };
            results.running.insert(target.id.clone(), stops.clone());
            stops
        };
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(wake);
        let gate = rt::sync::watch::Sender::new(target.known_started || container.startup_probe.is_none());
        let gate = Arc::new(gate);
        if target.known_started && container.startup_probe.is_some() {
            self.set(&target.id, Kind::Startup, true);
        }
        for (kind, probe) in probes {
            if kind == Kind::Readiness && !target.known_started {
                self.set(&target.id, kind, false);
            }
            let stop = if kind == Kind::Readiness { stop.all.clone() } else { stop.restarting.clone() };
            let (me, target, wake, gate) = (self.clone(), target.clone(), wake.clone(), gate.clone());
            rt::spawn("probe", async move {
                stop.run(me.repeat(kind, probe, target, wake, gate)).await;
            });
        }
    }

    /// Stops the probes of a container and forgets their results.
    pub fn stop(&self, container_id: &str) {
        let mut results = self.results.lock();
        if let Some(stop) = results.running.remove(container_id) {
            stop.all.cancel();
            results.by_container.retain(|(id, _), _| id != container_id);
        }
    }

    /// Ends the probes that would restart a container: its pod is being deleted.
    pub fn hold(&self, container_id: &str) {
        let mut results = self.results.lock();
        if let Some(stop) = results.running.get(container_id) {
            stop.restarting.cancel();
            results.by_container.retain(|(id, kind), result| id != container_id || *kind == Kind::Readiness || *result);
        }
    }

    fn set(&self, id: &str, kind: Kind, result: bool) -> bool {
        self.results.lock().by_container.insert((id.to_owned(), kind), result) != Some(result)
    }

    fn get(&self, id: &str, kind: Kind) -> Option<bool> {
        self.results.lock().by_container.get(&(id.to_owned(), kind)).copied()
    }

    async fn repeat(
        self: Arc<Self>,
        kind: Kind,
        probe: Probe,
        target: Target,
        wake: Arc<dyn Fn() + Send + Sync>,
        gate: Arc<rt::sync::watch::Sender<bool>>,
    ) {
        if kind == Kind::Startup {
            if *gate.borrow() {
                return;
            }
        } else {
            // The sender lives as long as this task's own handle on it.
            let _ = gate.subscribe().wait_for(|open| *open).await;
        }
        let delay = Duration::from_secs(positive(probe.initial_delay_seconds, 0));
        let since = rt::time::since(target.started);
        rt::time::sleep(delay.saturating_sub(since)).await;
        let mut ticks = rt::time::interval(Duration::from_secs(positive(probe.period_seconds, 10).max(1)));
        ticks.set_missed_tick_behavior(rt::time::MissedTickBehavior::Delay);
        let (needed_ok, needed_bad) =
            (positive(probe.success_threshold, 1).max(1), positive(probe.failure_threshold, 3).max(1));
        let (mut last, mut run) = (None, 0u64);
        loop {
            ticks.tick().await;
            let Some(result) = self.runner.probe(kind, &probe, &target).await else { continue };
            run = if last == Some(result) { run + 1 } else { 1 };
            last = Some(result);
            if run < if result { needed_ok } else { needed_bad } {
                continue;
            }
            if self.set(&target.id, kind, result) {
                wake();
            }
            if kind == Kind::Startup && result {
                gate.send_replace(true);
                return;
            }
            if kind != Kind::Readiness && !result {
                // The worker kills the container; the next one has probes of its own.
                return;
            }
        }
    }
}

fn positive(value: Option<i32>, default: u64) -> u64 {
    value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0 || default == 0).unwrap_or(default)
}

impl ProbeResults for Probes {
    fn liveness(&self, id: &str) -> Option<bool> {
        self.get(id, Kind::Liveness)
    }

    fn startup(&self, id: &str) -> Option<bool> {
        self.get(id, Kind::Startup)
    }
}

impl Readiness for Probes {
    fn readiness(&self, id: &str) -> Option<bool> {
        self.get(id, Kind::Readiness)
    }
}
