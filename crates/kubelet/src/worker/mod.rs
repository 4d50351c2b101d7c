//! One worker per pod: looks at what the runtime has, plans, acts, tells.
//!
//! The worker is one task. Whatever takes time (mounting, pulling, hooks, waiting for a process to end) is a future it
//! polls beside its inbox, so that a deletion is seen while an image is being pulled. At most one container of a pod is
//! being started at a time, in the spec's order; kills go side by side.

mod cleanup;
mod hooks;
mod images;
mod kill;
mod observe;
mod publish;
mod resize;
mod sandbox;
mod start;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use node_api::ContainerStatus;
use rt::time::Timestamp;
use rt::{HashMap, HashSet, Shutdown};
use volumes::Mounted;

use crate::k8s::{Kind, Pod};
use crate::pod::backoff::Backoffs;
use crate::pod::observed::Observed;
use crate::pod::status::{Verdict, Waiting};
use crate::shared::{Handle, Shared};

pub use images::{Unused, image_gc};
pub use step::go_duration;

/// What an operation reports when it is over.
enum Done {
    Sandbox(Result<(), String>),
    Volumes(Result<BTreeMap<String, Mounted>, Vec<(String, volumes::Error)>>),
    Started { name: String, result: Result<(), Failure> },
    Killed { id: String },
    Cleaned(Result<(), String>),
    Deleted(Result<(), String>),
    Resized(Result<(), String>),
    Removed,
}

/// Why a container was not started.
struct Failure {
    waiting: Waiting,
    /// When to try again, where the operation knows.
    retry_at: Option<Timestamp>,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It shall run.
    Active,
    /// Its containers are being ended.
    Terminating,
    /// Its sandbox and volumes are being taken down.
    Cleaning,
    /// Nothing of it runs.
    Terminated,
    /// Its remains are being removed.
    Removing,
}

/// A delay that grows with failures.
#[derive(Debug, Clone, Default)]
struct Retry {
    at: Option<Timestamp>,
    failures: u32,
}

impl Retry {
    fn fail(&mut self, first: Duration, most: Duration) -> Timestamp {
        let delay = first.saturating_mul(1 << self.failures.min(16)).min(most);
        self.failures += 1;
        let at = rt::time::now().checked_add(delay).unwrap_or(Timestamp::MAX);
        self.at = Some(at);
        at
    }

    fn due(&self, now: Timestamp) -> bool {
        self.at.is_none_or(|at| at <= now)
    }
}

#[derive(Default)]
struct VolumeState {
    mounted: Option<Arc<BTreeMap<String, Mounted>>>,
    busy: bool,
    stale: bool,
    retry: Retry,
    refresh_at: Option<Timestamp>,
}

/// See the module.
pub struct Worker {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    pod: Arc<Pod>,
    desired: Arc<Pod>,
    resize: resize::Resize,
    observed: Observed,
    finals: HashMap<String, Arc<ContainerStatus>>,
    dirty: bool,
    gone: bool,
    verdict: Option<Verdict>,
    stage: Stage,
    started_at: Timestamp,
    terminating_since: Option<Timestamp>,
    grace: Option<i64>,
    shorten: Shutdown,
    waiting: HashMap<String, Waiting>,
    crash: Backoffs,
    retries: HashMap<String, Retry>,
    volumes: VolumeState,
    sandbox_retry: Retry,
    sandbox_busy: bool,
    starting: Option<String>,
    killing: HashSet<String>,
    /// Containers that were ended from here, not by themselves.
    ended: HashSet<String>,
    cleanup_retry: Retry,
    deleting: bool,
    deleted: bool,
    cancel: Shutdown,
    ops: FuturesUnordered<BoxFuture<'static, Done>>,
    wake_at: Option<Timestamp>,
}

/// Starts the worker of a pod.
pub fn spawn(shared: Arc<Shared>, handle: Arc<Handle>) {
    let worker = Worker::new(shared, handle);
    rt::spawn("pod worker", async move {
        let shutdown = worker.shared.shutdown.clone();
        // Pods outlive the kubelet: at shutdown the task just ends.
        shutdown.run(worker.run()).await;
    });
}

impl Worker {
    fn new(shared: Arc<Shared>, handle: Arc<Handle>) -> Self {
        let want = handle.want.lock().clone();
        let now = rt::time::now();
        let told = want.pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
        Self {
            cancel: shared.shutdown.child(),
            shorten: shared.shutdown.child(),
            crash: Backoffs::new(crate::pod::backoff::BASE, shared.config.max_container_restart_period),
            resize: resize::Resize::found(&want.pod),
            desired: want.pod.clone(),
            pod: want.pod,
            verdict: want.verdict,
            observed: Observed::default(),
            finals: HashMap::default(),
            dirty: true,
            gone: false,
            stage: Stage::Active,
            started_at: told.unwrap_or(now),
            terminating_since: None,
            grace: None,
            waiting: HashMap::default(),
            retries: HashMap::default(),
            volumes: VolumeState::default(),
            sandbox_retry: Retry::default(),
            sandbox_busy: false,
            starting: None,
            killing: HashSet::default(),
            ended: HashSet::default(),
            cleanup_retry: Retry::default(),
            deleting: false,
            deleted: false,
            ops: FuturesUnordered::new(),
            wake_at: None,
            shared,
            handle,
        }
    }

    async fn run(mut self) {
        tracing::debug!(pod = self.pod.name(), ns = self.pod.namespace(), "pod worker starts");
        loop {
            self.take();
            if self.dirty {
                self.observe().await;
            }
            self.wake_at = None;
            if self.step() {
                break;
            }
            self.publish();
            self.wait().await;
        }
        self.shared.statuses.remove(&self.handle.uid);
        if let Some(objects) = &self.shared.objects {
            objects.release(&self.handle.uid);
        }
        self.shared.pods.lock().remove(&self.handle.uid);
        self.handle.ended.cancel();
        tracing::debug!(pod = self.pod.name(), ns = self.pod.namespace(), "pod worker ends");
    }

    /// Takes over what is wanted now.
    fn take(&mut self) {
        let new = {
            let mut want = self.handle.want.lock();
            self.dirty |= std::mem::take(&mut want.dirty);
            self.volumes.stale |= std::mem::take(&mut want.stale);
            self.gone |= want.gone;
            if self.verdict.is_none() {
                self.verdict.clone_from(&want.verdict);
            }
            want.pod.clone()
        };
        if !Arc::ptr_eq(&new, &self.desired) {
            let fields = |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
            self.volumes.stale |= fields(&new) != fields(&self.pod);
            self.pod = self.allocate(new);
        }
    }

    /// Waits for a reason to look again, and takes over what operations report.
    async fn wait(&mut self) {
        let until = self.wake_at.map(|at| rt::time::between(rt::time::now(), at));
        let handle = self.handle.clone();
        rt::select! {
            Some(done) = self.ops.next(), if !self.ops.is_empty() => self.finish(done),
            () = handle.wake.notified() => {}
            () = rt::time::sleep(until.unwrap_or_default()), if until.is_some() => {}
        }
    }

    /// Asks to be woken at a time, or earlier.
    fn wake_by(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Sandbox(result) => {
                (self.sandbox_busy, self.dirty) = (false, true);
                self.sandbox_done(result);
            }
            Done::Volumes(result) => self.volumes_done(result),
            Done::Started { name, result } => {
                (self.starting, self.dirty) = (None, true);
                self.start_done(name, result);
            }
            Done::Killed { id } => {
                self.dirty = true;
                self.killing.remove(&id);
            }
            Done::Cleaned(Ok(())) => {
                self.dirty = true;
                self.stage = Stage::Terminated;
                // Nothing is mounted any more: what was followed for it need not be.
                if let Some(objects) = &self.shared.objects {
                    objects.release(&self.handle.uid);
                }
            }
            Done::Cleaned(Err(error)) => {
                tracing::warn!(pod = self.pod.name(), error, "cannot take a pod down; trying again");
                (self.stage, self.dirty) = (Stage::Terminating, true);
                self.cleanup_retry.fail(Duration::from_millis(200), Duration::from_secs(10));
            }
            Done::Deleted(Ok(())) => (self.deleting, self.deleted) = (false, true),
            Done::Deleted(Err(error)) => {
                tracing::debug!(pod = self.pod.name(), error, "cannot delete a pod's object; trying again");
                self.deleting = false;
                self.cleanup_retry.fail(Duration::from_millis(200), Duration::from_secs(10));
            }
            Done::Resized(result) => self.resized(result),
            Done::Removed => self.gone = true,
        }
    }

    fn push(&self, op: impl Future<Output = Done> + Send + 'static) {
        self.ops.push(Box::pin(op));
    }
}
