//! Job: pods that run until enough of them have succeeded.
//!
//! Every pod carries a finalizer until it has been counted in the status, so that none is lost or counted twice, however
//! often the controller restarts: its uid goes into `uncountedTerminatedPods` first, then the finalizer goes, then the
//! count goes up.

mod backoff;
mod indexes;
mod manage;
mod policy;
mod round;
mod track;

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::batch::v1::{Job, JobStatus};
use api::k8s::core::v1::Pod;
use api::metav1::Time;
use client::{Error, PatchKind};
use informer::{Delta, EventType, Expectations, Informer, OwnWrites, Queue, run_workers};
use parking_lot::Mutex;
use rt::{HashMap, HashSet};
use serde_json::json;

use self::backoff::Record;
use self::round::{FINALIZER, Round, has_finalizer, is_finished, is_suspended, new_condition, spec};
use crate::frame::Context;
use crate::workload::replicas::by_controller;
use crate::{owner, pods};

const BY_CONTROLLER: &str = "controller";

/// What the queue holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Job(String),
    /// A pod that may have a finalizer and no job that would take it away.
    Orphan(String),
}

struct Controller {
    context: Context,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    queue: Arc<Queue<Key>>,
    expectations: Expectations,
    own_writes: OwnWrites,
    /// By job, pods whose finalizer was removed and whose change the cache has not shown yet.
    released: Mutex<HashMap<String, HashSet<String>>>,
    backoff: Mutex<HashMap<String, Record>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let (jobs, pods) = (context.factory.informer::<Job>(), context.factory.informer::<Pod>());
    pods.add_index(BY_CONTROLLER, by_controller);
    let queue = Arc::new(Queue::new());
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller {
        context,
        jobs,
        pods,
        queue: queue.clone(),
        expectations: Expectations::new(),
        own_writes: OwnWrites::default(),
        released: Mutex::default(),
        backoff: Mutex::default(),
    });
    let events = Arc::downgrade(&controller);
    controller.jobs.add_handler(move |delta| {
        if let Some(controller) = events.upgrade() {
            controller.job_changed(delta);
        }
    });
    let events = Arc::downgrade(&controller);
    controller.pods.add_handler(move |delta| {
        if let Some(controller) = events.upgrade() {
            controller.pod_changed(delta);
        }
    });
    controller.jobs.synced().await;
    controller.pods.synced().await;
    run_workers("job", queue, workers, shutdown, move |key: Key| {
        let controller = controller.clone();
        async move {
            match &key {
                Key::Job(key) => controller.sync(key).await,
                Key::Orphan(key) => controller.release_orphan(key).await,
            }
        }
    })
    .await;
}

/// A job that another controller works on.
fn is_foreign(job: &Job) -> bool {
    spec(job).managed_by.as_deref().is_some_and(|name| name != "kubernetes.io/job-controller")
}

impl Controller {
    fn job_changed(&self, delta: &Delta<Job>) {
        let job = delta.object();
        if matches!(delta, Delta::Deleted(_)) || is_finished(job) {
            let there = self.pods.cache().by_index(BY_CONTROLLER, job.uid());
            there.iter().filter(|p| has_finalizer(p)).for_each(|p| self.queue.add(Key::Orphan(p.key())));
        }
        if matches!(delta, Delta::Deleted(_)) {
            self.expectations.forget(&job.key());
            self.own_writes.forget(&job.key());
        }
        self.queue.add(Key::Job(job.key()));
    }

    fn owner_of(&self, pod: &Pod) -> Option<Arc<Job>> {
        let reference = pod.controller_ref().filter(|r| r.kind == "Job")?;
        self.jobs.cache().get(pod.namespace(), &reference.name).filter(|job| job.uid() == reference.uid)
    }

    fn pod_changed(&self, delta: &Delta<Pod>) {
        let pod = delta.object();
        if let Delta::Updated { old, new } = delta
            && old.controller_ref() != new.controller_ref()
            && let Some(former) = self.owner_of(old)
        {
            self.queue.add(Key::Job(former.key()));
        }
        let gone = matches!(delta, Delta::Deleted(_));
        let Some(job) = self.owner_of(pod) else {
            let ours = pod.controller_ref().is_none_or(|r| r.kind == "Job");
            if !gone && ours && has_finalizer(pod) {
                self.queue.add(Key::Orphan(pod.key()));
            }
            if !gone && pod.controller_ref().is_none() {
                for job in self.jobs.cache().in_namespace(pod.namespace()) {
                    let selector = spec(&job).selector.as_ref();
                    if selector.is_some_and(|s| owner::selector_of(s).matches_map(pod.labels())) {
                        self.queue.add(Key::Job(job.key()));
                    }
                }
            }
            return;
        };
        let key = job.key();
        if gone || !has_finalizer(pod) {
            let mut released = self.released.lock();
            if let Some(uids) = released.get_mut(&key) {
                uids.remove(pod.uid());
                if uids.is_empty() {
                    released.remove(&key);
                }
            }
        }
        match delta {
            Delta::Added(_) if !pod.is_deleting() => self.expectations.creation_observed(&key),
            Delta::Updated { old, .. } if !pod.is_deleting() || old.is_deleting() => {}
            _ => self.expectations.deletion_observed(&key, pod.uid()),
        }
        if !gone && has_finalizer(pod) && is_finished(&job) {
            self.queue.add(Key::Orphan(pod.key()));
        }
        self.queue.add(Key::Job(key));
    }

    async fn release_orphan(&self, key: &str) -> Result<(), Error> {
        let Some(pod) = self.pods.cache().get_key(key) else { return Ok(()) };
        match self.owner_of(&pod) {
            Some(job) if is_foreign(&job) || !is_finished(&job) => Ok(()),
            _ => self.remove_finalizer(&pod).await,
        }
    }

    async fn remove_finalizer(&self, pod: &Pod) -> Result<(), Error> {
        if !has_finalizer(pod) {
            return Ok(());
        }
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        match self.context.client.patch::<Pod>(pod.namespace(), pod.name(), &PatchKind::Strategic, &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(cached) = self.jobs.cache().get_key(key) else {
            self.forget(key);
            return Ok(());
        };
        if is_foreign(&cached) {
            return Ok(());
        }
        if let Some(wait) = self.own_writes.wait(key, cached.metadata.resource_version.as_deref()) {
            // What the pods' cache shows may be counted in the newer job.
            self.queue.add_after(Key::Job(key.to_owned()), wait);
            return Ok(());
        }
        if is_finished(&cached) {
            self.backoff.lock().remove(key);
            return Ok(());
        }
        let unseen = self.expectations.wait(key);
        let may_act = unseen.is_none();
        if let Some(wait) = unseen {
            self.queue.add_after(Key::Job(key.to_owned()), wait);
        }
        let mut job = (*cached).clone();
        let pods = self.claim(&job).await?;
        let now = rt::time::now();
        let status = job.status.get_or_insert_default();
        status.uncounted_terminated_pods.get_or_insert_default();
        if status.start_time.is_none() && !is_suspended(&cached) {
            status.start_time = Some(Time(now));
        }
        let released = self.released.lock().get(key).cloned().unwrap_or_default();
        let record = self.backoff.lock().get(key).cloned().unwrap_or_default();
        let mut round = Round::new(job, pods, released, &record, now);
        round.judge();
        self.await_deadline(key, &round);
        let result = if round.finished.is_some() {
            self.stop(&mut round, may_act).await
        } else {
            self.go_on(key, &mut round, may_act).await
        };
        self.track(key, round, cached.status.clone().unwrap_or_default()).await?;
        result
    }

    fn forget(&self, key: &str) {
        self.expectations.forget(key);
        self.own_writes.forget(key);
        self.released.lock().remove(key);
        self.backoff.lock().remove(key);
    }

    fn await_deadline(&self, key: &str, round: &Round) {
        let start = round.job.status.as_ref().and_then(|s| s.start_time.as_ref());
        if let (Some(seconds), Some(start), false) =
            (spec(&round.job).active_deadline_seconds, start, is_suspended(&round.job))
        {
            let deadline = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            let left = deadline.saturating_sub(rt::time::between(start.0, round.now));
            self.queue.add_after(Key::Job(key.to_owned()), left + Duration::from_millis(10));
        }
    }

    async fn claim(&self, job: &Job) -> Result<Vec<Arc<Pod>>, Error> {
        let Some(selector) = spec(job).selector.as_ref().map(owner::selector_of) else { return Ok(Vec::new()) };
        let cache = self.pods.cache();
        let mut candidates = cache.by_index(BY_CONTROLLER, job.uid());
        candidates.extend(cache.by_index(BY_CONTROLLER, &format!("orphan/{}", job.namespace())));
        let client = &self.context.client;
        owner::claim_all_with(client, job, candidates, &selector, pods::is_active, Some(FINALIZER)).await
    }

    /// The job is over: its running pods go.
    async fn stop(&self, round: &mut Round, may_act: bool) -> Result<(), Error> {
        let active = std::mem::take(&mut round.active);
        let (deleted, ready, result) = self.delete_pods(&round.job, &active).await;
        if deleted != round.active_count || !may_act {
            // Not all is known to be gone: the end is said in another pass.
            round.finished = None;
        }
        round.active_count -= deleted;
        round.terminating += deleted;
        round.ready -= ready;
        result
    }

    async fn go_on(&self, key: &str, round: &mut Round, may_act: bool) -> Result<(), Error> {
        let managed = may_act && !round.job.is_deleting();
        let result = if managed { self.manage(key, round).await } else { Ok(()) };
        let complete = match spec(&round.job).completions {
            None => round.succeeded > 0 && round.active_count == 0,
            Some(completions) => round.succeeded >= completions && round.active_count == 0,
        };
        if complete {
            let message = "Reached expected number of succeeded pods";
            let condition = new_condition("SuccessCriteriaMet", "True", "CompletionsReached", message, round.now);
            round.finished = Some(condition);
        } else if managed {
            self.say_suspension(round);
        }
        result
    }

    fn say_suspension(&self, round: &mut Round) {
        let (suspended, now) = (is_suspended(&round.job), round.now);
        let status = round.job.status.get_or_insert_default();
        if suspended {
            if set_condition(status, "Suspended", "True", "JobSuspended", "Job suspended", now) {
                status.start_time = None;
                self.context.recorder.event(&round.job, EventType::Normal, "Suspended", "Job suspended");
            }
        } else if set_condition(status, "Suspended", "False", "JobResumed", "Job resumed", now) {
            status.start_time = Some(Time(now));
            self.context.recorder.event(&round.job, EventType::Normal, "Resumed", "Job resumed");
        }
    }
}

/// Brings a condition up to date; whether that changed anything. A new one is not made just to say no.
fn set_condition(
    status: &mut JobStatus,
    type_: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: rt::time::Timestamp,
) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let new = new_condition(type_, value, reason, message, now);
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(old) if old.status == new.status && old.reason == new.reason && old.message == new.message => false,
        Some(old) => {
            *old = new;
            true
        }
        None if value == "False" => false,
        None => {
            conditions.push(new);
            true
        }
    }
}
