//! Job: pods that run until enough of them have succeeded.
//!
//! Every pod carries a finalizer until it has been counted in the status, so that none is lost or counted twice, however
//! often the controller restarts: its uid goes into `uncountedTerminatedPods` first, then the finalizer goes, then the
//! count goes up.

mod backoff;
mod gang;
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
use informer::{Delta, EventType, Informer, OwnWrites, Queue, run_workers};
use parking_lot::Mutex;
use rt::HashMap;
use serde_json::json;

use self::backoff::Record;
use self::gang::Gangs;
use self::round::{FINALIZER, Round, has_finalizer, is_finished, is_suspended, new_condition, spec};
use crate::frame::Context;
use crate::workload::follow::{self, BY_CONTROLLER};
use crate::workload::writes::{Writes, is_unclear};
use crate::{owner, pods};

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
    own: OwnWrites,
    backoff: Mutex<HashMap<String, Record>>,
    /// None when jobs are not scheduled as gangs.
    gangs: Option<Gangs>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let (jobs, pods) = (context.factory.informer::<Job>(), context.factory.informer::<Pod>());
    pods.add_index(BY_CONTROLLER, follow::by_controller);
    let queue = Arc::new(Queue::new());
    let woken = queue.clone();
    let own = OwnWrites::new(Some("job_controller"), move |key| woken.add(Key::Job(key))).over(&jobs).over(&pods);
    let gangs = Gangs::new(&context);
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller =
        Arc::new(Controller { context, jobs, pods, queue: queue.clone(), own, backoff: Mutex::default(), gangs });
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
    if let Some(gangs) = &controller.gangs {
        gangs.synced().await;
    }
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
        self.queue.add(Key::Job(job.key()));
    }

    fn pod_changed(&self, delta: &Delta<Pod>) {
        let jobs = follow::concerned(&self.jobs, delta, |job| spec(job).selector.as_ref().map(owner::selector_of));
        jobs.iter().for_each(|job| self.queue.add(Key::Job(job.key())));
        let pod = delta.object();
        if matches!(delta, Delta::Deleted(_)) || !has_finalizer(pod) {
            return;
        }
        let held = match follow::owner_of(&self.jobs, &**pod) {
            Some(job) => is_finished(&job),
            None => pod.controller_ref().is_none_or(|r| r.kind == "Job"),
        };
        if held {
            self.queue.add(Key::Orphan(pod.key()));
        }
    }

    async fn release_orphan(&self, key: &str) -> Result<(), Error> {
        let Some(pod) = self.pods.cache().get_key(key) else { return Ok(()) };
        match follow::owner_of(&self.jobs, &*pod) {
            Some(job) if is_foreign(&job) || !is_finished(&job) => Ok(()),
            _ => self.remove_finalizer(None, &pod).await,
        }
    }

    /// Lets a pod go; for a job, this has to be seen before the job is looked at again.
    async fn remove_finalizer(&self, job: Option<&str>, pod: &Pod) -> Result<(), Error> {
        if !has_finalizer(pod) {
            return Ok(());
        }
        let client = &self.context.client;
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
        let done = client.patch::<Pod>(pod.namespace(), pod.name(), &PatchKind::Strategic, &patch).await.map(drop);
        let released = match &done {
            Ok(()) => true,
            Err(error) if error.is_not_found() => true,
            Err(error) if is_unclear(error) => {
                let found = self.writes(job.unwrap_or_default()).ask(pod).await;
                found.is_ok_and(|found| found.is_none_or(|found| !has_finalizer(&found)))
            }
            Err(_) => false,
        };
        if let (true, Some(job)) = (released, job) {
            self.own.expect(job, pod, |pod| !has_finalizer(pod));
        }
        if released { Ok(()) } else { done }
    }

    fn writes<'a>(&'a self, key: &'a str) -> Writes<'a> {
        Writes { context: &self.context, own: &self.own, key }
    }

    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(cached) = self.jobs.cache().get_key(key) else {
            self.forget(key);
            return Ok(());
        };
        if is_foreign(&cached) {
            return Ok(());
        }
        if let Some(wait) = self.own.wait(key) {
            // What the pods' cache shows may be counted in a newer job than the cached one.
            self.queue.add_after(Key::Job(key.to_owned()), wait);
            return Ok(());
        }
        if is_finished(&cached) {
            self.backoff.lock().remove(key);
            return Ok(());
        }
        let mut job = (*cached).clone();
        let pods = self.claim(&job).await?;
        let group = match &self.gangs {
            Some(gangs) => gangs.ensure(&self.context, &cached, &pods).await?,
            None => None,
        };
        let now = rt::time::now();
        let status = job.status.get_or_insert_default();
        status.uncounted_terminated_pods.get_or_insert_default();
        if status.start_time.is_none() && !is_suspended(&cached) {
            status.start_time = Some(Time(now));
        }
        let record = self.backoff.lock().get(key).cloned().unwrap_or_default();
        let mut round = Round::new(job, pods, &record, now);
        round.group = group;
        round.judge();
        self.await_deadline(key, &round);
        let result =
            if round.finished.is_some() { self.stop(key, &mut round).await } else { self.go_on(key, &mut round).await };
        self.track(key, round, cached.status.clone().unwrap_or_default()).await?;
        result
    }

    fn forget(&self, key: &str) {
        self.own.forget(key);
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
        let candidates = follow::candidates(job, &self.pods);
        let client = &self.context.client;
        owner::claim_all_with(client, job, candidates, &selector, pods::is_active, Some(FINALIZER)).await
    }

    /// The job is over: its running pods go.
    async fn stop(&self, key: &str, round: &mut Round) -> Result<(), Error> {
        let active = std::mem::take(&mut round.active);
        let (deleted, ready, result) = self.delete_pods(key, &round.job, &active).await;
        if deleted != round.active_count {
            // Not all is known to be gone: the end is said in another pass.
            round.finished = None;
        }
        round.active_count -= deleted;
        round.terminating += deleted;
        round.ready -= ready;
        result
    }

    async fn go_on(&self, key: &str, round: &mut Round) -> Result<(), Error> {
        let managed = !round.job.is_deleting();
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
