//! CronJob: makes Jobs at the times of a cron line.

mod schedule;

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::batch::v1::{CronJob, CronJobSpec, Job};
use api::k8s::core::v1::ObjectReference;
use api::metav1::{ObjectMeta, Time};
use client::{DeleteOptions, Error, Propagation};
use informer::{Delta, EventType, Informer, Queue, run_workers};
use jiff::tz::TimeZone;
use rt::time::Timestamp;

use self::schedule::Schedule;
use crate::frame::Context;
use crate::owner::controller_reference;
use crate::workload::pod_control::namespace_terminating;

const BY_CONTROLLER: &str = "controller";
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Later than its time, so that a timer that is early finds nothing to do.
const SLACK: Duration = Duration::from_millis(100);

struct Controller {
    context: Context,
    crons: Informer<CronJob>,
    jobs: Informer<Job>,
    queue: Arc<Queue<String>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let (crons, jobs) = (context.factory.informer::<CronJob>(), context.factory.informer::<Job>());
    jobs.add_index(BY_CONTROLLER, |job| job.controller_ref().map(|r| r.uid.clone()).into_iter().collect());
    let queue = Arc::new(Queue::new());
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller { context, crons, jobs, queue: queue.clone() });
    let handed = queue.clone();
    controller.crons.add_handler(move |delta| handed.add(delta.object().key()));
    let events = Arc::downgrade(&controller);
    controller.jobs.add_handler(move |delta: &Delta<Job>| {
        let Some(controller) = events.upgrade() else { return };
        let job = delta.object();
        if let Some(owner) = job.controller_ref().filter(|r| r.kind == "CronJob") {
            controller.queue.add(format!("{}/{}", job.namespace(), owner.name));
        }
    });
    controller.crons.synced().await;
    controller.jobs.synced().await;
    run_workers("cronjob", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

/// How a job ended.
fn ended(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let over =
        |c: &&api::k8s::batch::v1::JobCondition| c.status == "True" && (c.type_ == "Complete" || c.type_ == "Failed");
    conditions.iter().find(over).map(|c| c.type_.as_str())
}

fn started(job: &Job) -> Option<Timestamp> {
    let start = job.status.as_ref().and_then(|s| s.start_time.as_ref());
    start.or(job.metadata.creation_timestamp.as_ref()).map(|t| t.0)
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference { resource_version: Some(job.resource_version().to_owned()), ..informer::reference(job) }
}

fn active(cron: &mut CronJob) -> &mut Vec<ObjectReference> {
    cron.status.get_or_insert_default().active.get_or_insert_default()
}

fn is_active(cron: &CronJob, uid: &str) -> bool {
    cron.status.iter().flat_map(|s| s.active.iter().flatten()).any(|r| r.uid.as_deref() == Some(uid))
}

fn new_job(cron: &CronJob, spec: &CronJobSpec, at: Timestamp, zone: &TimeZone) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let zoned = at.to_zoned(zone.clone());
    let stamp = if zoned.offset().is_zero() {
        zoned.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    };
    annotations.insert(SCHEDULED.to_owned(), stamp);
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron.name(), at.as_second() / 60)),
            namespace: Some(cron.namespace().to_owned()),
            labels: template.labels,
            annotations: Some(annotations),
            creation_timestamp: Some(Time(at)),
            owner_references: Some(vec![controller_reference(cron)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

impl Controller {
    fn event(&self, cron: &CronJob, kind: EventType, reason: &str, message: String) {
        self.context.recorder.event(cron, kind, reason, message);
    }

    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(cached) = self.crons.cache().get_key(key) else { return Ok(()) };
        let mut cron = (*cached).clone();
        let jobs = self.jobs.cache().by_index(BY_CONTROLLER, cron.uid());
        self.follow(&mut cron, &jobs).await?;
        self.clean_up(&mut cron, &jobs).await?;
        let result = if cron.is_deleting() { Ok(None) } else { self.start(&mut cron, &jobs).await };
        let normal = |cron: &CronJob| {
            let mut status = cron.status.clone().unwrap_or_default();
            status.active = status.active.filter(|a| !a.is_empty());
            status
        };
        if normal(&cron) != normal(&cached) {
            cron.status = Some(normal(&cron));
            match self.context.client.update_status(&cron).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        if let Some(wait) = result? {
            self.queue.add_after(key.to_owned(), wait + SLACK);
        }
        Ok(())
    }

    /// Brings the list of active jobs up to date.
    async fn follow(&self, cron: &mut CronJob, jobs: &[Arc<Job>]) -> Result<(), Error> {
        for job in jobs {
            let listed = is_active(cron, job.uid());
            let Some(end) = ended(job) else {
                if !listed {
                    self.adopt(cron, job).await?;
                }
                continue;
            };
            if listed {
                active(cron).retain(|r| r.uid.as_deref() != Some(job.uid()));
                let message = format!("Saw completed job: {}, condition: {end}", job.name());
                self.event(cron, EventType::Normal, "SawCompletedJob", message);
            }
            let done = job.status.as_ref().and_then(|s| s.completion_time.clone()).filter(|_| end == "Complete");
            let status = cron.status.get_or_insert_default();
            if let Some(done) = done
                && status.last_successful_time.as_ref().is_none_or(|last| last.0 < done.0)
            {
                status.last_successful_time = Some(done);
            }
        }
        let missing: Vec<ObjectReference> = active(cron)
            .iter()
            .filter(|r| !jobs.iter().any(|job| r.uid.as_deref() == Some(job.uid())))
            .cloned()
            .collect();
        for reference in missing {
            let name = reference.name.clone().unwrap_or_default();
            match self.context.client.get::<Job>(cron.namespace(), &name).await {
                Ok(job) if Some(job.uid()) == reference.uid.as_deref() => {}
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {
                    self.event(cron, EventType::Normal, "MissingJob", format!("Active job went missing: {name}"));
                    active(cron).retain(|r| r.uid != reference.uid);
                }
            }
        }
        Ok(())
    }

    /// A running job that is not in the list: perhaps the cache is behind our own write.
    async fn adopt(&self, cron: &mut CronJob, job: &Job) -> Result<(), Error> {
        let fresh = match self.context.client.get::<CronJob>(cron.namespace(), cron.name()).await {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        if is_active(&fresh, job.uid()) {
            cron.status = fresh.status;
            cron.metadata.resource_version = fresh.metadata.resource_version;
            return Ok(());
        }
        let message = format!("Saw a job that the controller did not create or forgot: {}", job.name());
        self.event(cron, EventType::Warning, "UnexpectedJob", message);
        Ok(())
    }

    async fn clean_up(&self, cron: &mut CronJob, jobs: &[Arc<Job>]) -> Result<(), Error> {
        let spec = cron.spec.clone();
        for (end, limit) in
            [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
        {
            let Some(limit) = limit.and_then(|n| usize::try_from(n).ok()) else { continue };
            let mut over: Vec<&Arc<Job>> = jobs.iter().filter(|j| ended(j) == Some(end)).collect();
            over.sort_by_key(|job| (started(job), job.name().to_owned()));
            let surplus = over.len().saturating_sub(limit);
            for job in &over[..surplus] {
                self.delete(cron, job).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, cron: &mut CronJob, job: &Job) -> Result<(), Error> {
        let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::of(job.uid()) };
        match self.context.client.delete::<Job>(job.namespace(), job.name(), &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                self.event(cron, EventType::Warning, "FailedDelete", format!("Deleted job: {}", error.chain()));
                return Err(error);
            }
            _ => {}
        }
        active(cron).retain(|r| r.uid.as_deref() != Some(job.uid()));
        self.event(cron, EventType::Normal, "SuccessfulDelete", format!("Deleted job {}", job.name()));
        Ok(())
    }

    /// Starts the job whose time has come. Gives when to look again.
    async fn start(&self, cron: &mut CronJob, jobs: &[Arc<Job>]) -> Result<Option<Duration>, Error> {
        let spec = cron.spec.clone();
        let zone = match spec.time_zone.as_deref().map(TimeZone::get) {
            None => TimeZone::UTC,
            Some(Ok(zone)) => zone,
            Some(Err(_)) => {
                let name = spec.time_zone.as_deref().unwrap_or_default();
                let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
                self.event(cron, EventType::Warning, "UnknownTimeZone", message);
                return Ok(None);
            }
        };
        if spec.suspend == Some(true) {
            return Ok(None);
        }
        let schedule = match Schedule::parse(&spec.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
                self.event(cron, EventType::Warning, "UnparseableSchedule", message);
                return Ok(None);
            }
        };
        let now = rt::time::now();
        let Some(next) = schedule.next(now, &zone) else {
            // It can be read and never comes, such as the 31st of February.
            let why = "time difference between two schedules is less than 1 second";
            let message = format!("invalid schedule: {} : {why}", spec.schedule);
            self.event(cron, EventType::Warning, "InvalidSchedule", message);
            return Ok(None);
        };
        let next = Some(rt::time::between(now, next));
        let Some(at) = self.due(cron, &spec, &schedule, &zone, now) else { return Ok(next) };
        if spec.concurrency_policy.as_deref() == Some("Forbid") && !active(cron).is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            self.event(cron, EventType::Normal, "JobAlreadyActive", message.to_owned());
            return Ok(next);
        }
        if spec.concurrency_policy.as_deref() == Some("Replace") {
            for reference in active(cron).clone() {
                let Some(job) = jobs.iter().find(|j| reference.uid.as_deref() == Some(j.uid())) else { continue };
                self.delete(cron, job).await?;
            }
        }
        self.create(cron, &new_job(cron, &spec, at, &zone), at).await.map(|()| next)
    }

    /// The time whose job is to start now.
    fn due(
        &self,
        cron: &CronJob,
        spec: &CronJobSpec,
        schedule: &Schedule,
        zone: &TimeZone,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let status = cron.status.as_ref();
        let last = status.and_then(|s| s.last_schedule_time.as_ref()).map(|t| t.0);
        let mut from = last.or(cron.metadata.creation_timestamp.as_ref().map(|t| t.0))?;
        let deadline = spec.starting_deadline_seconds;
        if let Some(seconds) = deadline {
            from = from.max(Timestamp::from_second(now.as_second() - seconds).unwrap_or(from));
        }
        let (at, many) = schedule.latest(from, now, zone)?;
        if many {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.event(cron, EventType::Warning, "TooManyMissedTimes", message.to_owned());
        }
        if deadline.is_some_and(|seconds| at.as_second() + seconds < now.as_second()) {
            let message =
                format!("Missed scheduled time to start a job: {}", at.strftime("%a, %d %b %Y %H:%M:%S +0000"));
            self.event(cron, EventType::Warning, "MissSchedule", message);
            return None;
        }
        (last != Some(at)).then_some(at)
    }

    async fn create(&self, cron: &mut CronJob, job: &Job, at: Timestamp) -> Result<(), Error> {
        let made = match self.context.client.create(job).await {
            Ok(made) => {
                self.event(cron, EventType::Normal, "SuccessfulCreate", format!("Created job {}", made.name()));
                made
            }
            Err(error) if namespace_terminating(&error) => return Ok(()),
            Err(error) if error.is_already_exists() => {
                let found: Job = self.context.client.get(job.namespace(), job.name()).await?;
                if found.controller_ref().is_none_or(|r| r.uid != cron.uid()) {
                    return Err(error);
                }
                if ended(&found).is_some() {
                    cron.status.get_or_insert_default().last_schedule_time = Some(Time(at));
                    return Ok(());
                }
                found
            }
            Err(error) => {
                let message = format!("Error creating job: {}", error.chain());
                self.event(cron, EventType::Warning, "FailedCreate", message);
                return Err(error);
            }
        };
        if !is_active(cron, made.uid()) {
            active(cron).push(reference(&made));
        }
        cron.status.get_or_insert_default().last_schedule_time = Some(Time(at));
        Ok(())
    }
}
