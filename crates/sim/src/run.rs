//! One seed: a cluster is made, used and troubled, then left alone, and must come to rest.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hollow::{Fleet, NodeSpec, Times};
use parking_lot::Mutex;
use rt::Shutdown;
use rt::rand::below;
use rt::time::{Instant, Timestamp};
use store::{Embedded, EmbeddedOptions};

use crate::behaviour::Whims;
use crate::chaos::Chaos;
use crate::model::{self, Model};
use crate::note;
use crate::plane::{Component, Instance};
use crate::server::Api;
use crate::settle;
use crate::trace;
use crate::transport::{Process, Weather};
use crate::user::User;
use crate::watcher::{self, Told};

/// The wall clock's first moment: a Saturday in 2026.
const EPOCH: i64 = 1_780_000_000;
/// How long a cluster may take to come to rest.
const REST: Duration = Duration::from_secs(1_800);
/// How long it must have been quiet then.
const QUIET: Duration = Duration::from_secs(20);
/// Pods that a node takes.
const SLOTS: u64 = 10;

/// What became of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong; nothing, it is hoped.
    pub failures: Vec<String>,
    /// The trace's hash.
    pub hash: u64,
    /// Events in the trace.
    pub events: u64,
    /// The last revision.
    pub revisions: i64,
    /// Requests, and how many of them met a fault.
    pub requests: (u64, u64),
    /// Simulated seconds.
    pub seconds: f64,
}

/// Runs a seed. Once per process: clock and trace are the process'.
///
/// # Errors
/// The simulation itself fails.
pub fn run(seed: u64, print: bool) -> anyhow::Result<Outcome> {
    rt::rand::seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .context("make the executor")?;
    runtime.block_on(async {
        rt::time::set_epoch(Timestamp::from_second(EPOCH).context("the epoch")?);
        trace::begin(print);
        Cluster::start().await?.live().await
    })
}

struct Cluster {
    api: Arc<Api>,
    weather: Arc<Weather>,
    model: Arc<Mutex<Model>>,
    told: Arc<Told>,
    chaos: Chaos,
    user: User,
    shutdown: Shutdown,
}

impl Cluster {
    async fn start() -> anyhow::Result<Self> {
        let shutdown = Shutdown::new();
        let weather = Arc::new(Weather::default());
        // A short log in memory, so that watches that fall behind read the history.
        let options = EmbeddedOptions { log_bytes: 64 << 10, ..EmbeddedOptions::default() };
        let store = Embedded::memory(options).context("make the store")?;
        let model = Arc::new(Mutex::new(Model::new(weather.clone())));
        rt::spawn("model", model::follow(store.clone(), model.clone(), shutdown.clone()));
        let api = Api::new(store);
        api.start().await?;
        let mut instances = Vec::new();
        for number in 0..2 {
            for component in [Component::Controllers, Component::Scheduler] {
                instances.push(Instance::start(component, number, &api, &weather, &shutdown));
            }
        }
        let count = 3 + below(3);
        let nodes: Vec<String> = (0..count).map(|number| format!("node-{number}")).collect();
        let node =
            |name: &String| NodeSpec::new(name).with_capacity(&[("cpu", "1"), ("memory", "4Gi"), ("pods", "30")]);
        let fleet = Fleet::new(
            Process::new("nodes", &api, &weather, true).client(),
            nodes.iter().map(node).collect(),
            Arc::new(Whims(weather.clone())),
            Times::default(),
        );
        let (running, stop) = (fleet.clone(), shutdown.clone());
        rt::spawn("fleet", async move { running.run(stop).await });
        let told = Arc::new(Told::default());
        let observer = Process::new("observer", &api, &weather, true).client();
        rt::spawn("observer", watcher::watch(observer, told.clone(), shutdown.clone()));
        let client = Process::new("user", &api, &weather, false).client();
        let user = User::new(client, count * SLOTS * 6 / 10, count);
        let chaos = Chaos { api: api.clone(), instances, fleet, nodes };
        Ok(Self { api, weather, model, told, chaos, user, shutdown })
    }

    async fn live(mut self) -> anyhow::Result<Outcome> {
        self.user.prepare().await;
        rt::time::sleep(Duration::from_secs(below(20))).await;
        self.weather.set(true);
        let end = Instant::now() + Duration::from_secs(60 + below(120));
        while Instant::now() < end {
            rt::time::sleep(Duration::from_millis(below(6_000))).await;
            if below(3) == 0 {
                self.chaos.act(&self.user).await?;
            } else {
                self.user.act().await;
            }
        }
        self.heal().await?;
        let failures = self.settle().await;
        let (hash, events) = trace::end();
        let revisions = self.model.lock().head();
        self.shutdown.cancel();
        self.api.kill();
        Ok(Outcome { failures, hash, events, revisions, requests: self.weather.counts(), seconds: trace::seconds() })
    }

    async fn heal(&mut self) -> anyhow::Result<()> {
        note!("the weather is fine again");
        self.weather.set(false);
        if self.api.current().is_none() {
            self.api.start().await?;
        }
        for node in &self.chaos.nodes {
            self.chaos.fleet.power_on(node);
        }
        self.user.rest().await;
        Ok(())
    }

    /// Waits until the cluster is at rest and as it should be; what is not by then, and what ever was wrong.
    async fn settle(&self) -> Vec<String> {
        let begun = Instant::now();
        let problems = loop {
            rt::time::sleep(Duration::from_secs(5)).await;
            let model = self.model.lock();
            let problems = settle::problems(&model);
            if !model.violations().is_empty() || (problems.is_empty() && model.quiet() >= QUIET) {
                break problems;
            }
            if begun.elapsed() >= REST {
                let quiet = model.quiet().as_secs();
                break problems
                    .into_iter()
                    .chain([format!("not at rest; the last change was {quiet} s ago")])
                    .collect();
            }
        };
        note!("at rest after {:?}", begun.elapsed());
        let mut model = self.model.lock();
        let seen = self.told.check(&mut model);
        note!("the observer saw {seen} changes of pods");
        let failed = !model.violations().is_empty();
        let mut failures = model.violations().to_vec();
        if !failed {
            failures.extend(problems);
        }
        failures
    }
}
