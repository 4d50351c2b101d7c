//! The scheduler: queue, decision, binding.

use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::{Node, Pod};
use client::{Client, PatchKind};
use informer::{EventType, Factory, Recorder};
use parking_lot::Mutex;
use rt::Shutdown;
use rt::sync::Semaphore;
use serde_json::json;

use crate::cache::Cache;
use crate::cycle::{Cycle, FitError};
use crate::events::ClusterEvent;
use crate::framework::Points;
use crate::handlers;
use crate::plugins::{Weighted, default_plugins};
use crate::pod_info::PodInfo;
use crate::queue::{Queue, Queued};

/// Bindings (and writes of failures) under way at once.
const MAX_IN_FLIGHT: usize = 256;

/// How to schedule.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `schedulerName` of pods that are ours.
    pub name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { name: "default-scheduler".into() }
    }
}

/// What the tasks share.
pub(crate) struct Scheduler {
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) queue: Queue,
    pub(crate) cache: Mutex<Cache>,
    pub(crate) cycle: Mutex<Cycle>,
    plugins: Vec<Weighted>,
    permits: Arc<Semaphore>,
}

/// Schedules pods until told to stop.
pub async fn run(options: Options, client: Client, factory: Factory, shutdown: Shutdown) {
    let recorder = Recorder::start(client.clone(), &options.name, None, shutdown.clone());
    let scheduler = Arc::new(Scheduler {
        name: options.name,
        client,
        recorder,
        queue: Queue::default(),
        cache: Mutex::default(),
        cycle: Mutex::new(Cycle::new(default_plugins())),
        plugins: default_plugins(),
        permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
    });
    let (pods, nodes) = (factory.informer::<Pod>(), factory.informer::<Node>());
    handlers::attach(&scheduler, &pods, &nodes);
    factory.start(&shutdown);
    pods.synced().await;
    nodes.synced().await;
    let work = scheduler.clone();
    shutdown.run(async move { work.work().await }).await;
}

impl Scheduler {
    async fn work(self: Arc<Self>) {
        loop {
            let pod = match self.queue.try_pop() {
                Some(pod) => pod,
                None => self.queue.pop().await,
            };
            let Ok(permit) = self.permits.clone().acquire_owned().await else { return };
            let this = self.clone();
            match self.decide(&pod) {
                Ok(node) => rt::spawn("bind", async move {
                    this.bind(pod, &node).await;
                    drop(permit);
                }),
                Err(error) => rt::spawn("report unschedulable", async move {
                    this.give_back(pod, &error).await;
                    drop(permit);
                }),
            };
            // Decisions are long for a task that never waits: let the others run.
            rt::yield_now().await;
        }
    }

    fn decide(&self, pod: &Queued) -> Result<String, FitError> {
        let mut cache = self.cache.lock();
        let node = self.cycle.lock().decide(&pod.info, &cache)?;
        cache.assume(pod.info.clone(), &node);
        Ok(node)
    }

    async fn bind(&self, pod: Queued, node: &str) {
        let mut status = None;
        for weighted in self.plugins.iter().filter(|w| w.plugin.points().has(Points::BIND)) {
            status = weighted.plugin.bind(&self.client, &pod.info, node).await;
            if status.is_none() {
                break;
            }
        }
        match status {
            None => {
                let message = format!("Successfully assigned {} to {node}", pod.info.key);
                self.recorder.event(&*pod.info.pod, EventType::Normal, "Scheduled", message);
                self.queue.done(&pod.info.uid);
            }
            Some(status) => {
                let freed = self.cache.lock().remove_pod(&pod.info.uid);
                let message = format!("binding rejected: {}", status.reasons.join(", "));
                self.give_back(pod, &FitError { message, rejected_by: 0, failed: true }).await;
                if let Some(freed) = freed {
                    self.event(ClusterEvent::pod(crate::events::kind::POD_DELETE, freed));
                }
            }
        }
    }

    /// Puts a pod back and tells its user why.
    async fn give_back(&self, pod: Queued, error: &FitError) {
        let info = pod.info.clone();
        let rejected_by = if error.failed { 0 } else { error.rejected_by };
        // Gone or bound by somebody else meanwhile: nothing to try again.
        let found = self.client.get::<Pod>(info.pod.namespace(), info.pod.name()).await;
        let current = match found {
            Ok(found)
                if found.uid() == info.uid && crate::pod_info::node_name(&found).is_empty() && !found.is_deleting() =>
            {
                found
            }
            Err(error) if !error.is_not_found() => (*info.pod).clone(),
            _ => {
                self.queue.done(&info.uid);
                return;
            }
        };
        let mut refreshed = pod;
        refreshed.info = Arc::new(PodInfo::new(Arc::new(current)));
        self.queue.reject(refreshed, rejected_by, &|pod, by, event| self.helps(pod, by, event));
        self.recorder.event(&*info.pod, EventType::Warning, "FailedScheduling", error.message.clone());
        self.write_condition(&info, if error.failed { "SchedulerError" } else { "Unschedulable" }, &error.message)
            .await;
    }

    /// Writes the `PodScheduled` condition unless the pod says it already.
    pub(crate) async fn write_condition(&self, info: &PodInfo, reason: &str, message: &str) {
        let conditions = info.pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        let said = conditions.iter().any(|c| {
            c.type_ == "PodScheduled"
                && c.status == "False"
                && c.reason.as_deref() == Some(reason)
                && c.message.as_deref() == Some(message)
        });
        if said {
            return;
        }
        let patch = json!({"metadata": {"uid": info.uid}, "status": {"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "observedGeneration": info.pod.metadata.generation,
            "lastTransitionTime": api::metav1::Time(rt::time::now()),
        }]}});
        let (namespace, name) = (info.pod.namespace(), info.pod.name());
        if let Err(error) = self.client.patch_status::<Pod>(namespace, name, &PatchKind::Strategic, &patch).await {
            tracing::debug!(pod = info.key, error = error.chain(), "cannot write the PodScheduled condition");
        }
    }

    /// Whether an event may help a pod that these plugins rejected.
    pub(crate) fn helps(&self, pod: &PodInfo, rejected_by: u64, event: &ClusterEvent) -> bool {
        let cache = event.node.as_ref().and_then(|_| self.cache.try_lock());
        let node = event.node.as_ref().and_then(|name| cache.as_ref()?.node(name));
        let mut rejecting = self.plugins.iter().enumerate().filter(|(at, _)| rejected_by & (1 << at) != 0);
        rejecting.any(|(_, w)| w.plugin.wakes_on() & event.kinds != 0 && w.plugin.hint(pod, event, node))
    }

    /// Tells the queue of an event.
    pub(crate) fn event(&self, event: ClusterEvent) {
        self.queue.event(event, &|pod, by, event| self.helps(pod, by, event));
    }
}
