//! One look at a Job: its pods counted, and whether it is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::k8s::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use api::k8s::core::v1::Pod;
use api::k8s::scheduling::v1alpha2::PodGroup;
use api::metav1::Time;
use rt::HashSet;
use rt::time::Timestamp;

use super::backoff::{Record, finished_at};
use super::indexes::Indexes;
use super::policy::{self, Verdict};
use crate::pods;

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

pub(super) fn spec(job: &Job) -> &JobSpec {
    static NONE: std::sync::LazyLock<JobSpec> = std::sync::LazyLock::new(JobSpec::default);
    job.spec.as_ref().unwrap_or(&NONE)
}

pub(super) fn is_indexed(job: &Job) -> bool {
    spec(job).completion_mode.as_deref() == Some("Indexed")
}

pub(super) fn is_suspended(job: &Job) -> bool {
    spec(job).suspend == Some(true)
}

pub(super) fn per_index(job: &Job) -> bool {
    spec(job).backoff_limit_per_index.is_some()
}

/// Pods are replaced only once they have ended, not when they begin to go.
pub(super) fn only_failed(job: &Job) -> bool {
    spec(job).pod_replacement_policy.as_deref() == Some("Failed") || spec(job).pod_failure_policy.is_some()
}

pub(super) fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

pub(super) fn index(pod: &Pod) -> Option<i32> {
    pod.annotation(INDEX)?.parse().ok().filter(|i| *i >= 0)
}

pub(super) fn failures_of(pod: &Pod, annotation: &str) -> i32 {
    pod.annotation(annotation).and_then(|n| n.parse().ok()).unwrap_or(0)
}

pub(super) fn is_failed(job: &Job, pod: &Pod) -> bool {
    pods::phase(pod) == "Failed" || (!only_failed(job) && pod.is_deleting() && pods::phase(pod) != "Succeeded")
}

pub(super) fn counts(job: &Job, pod: &Pod) -> bool {
    policy::judge(spec(job), pod) != Verdict::Ignore
}

pub(super) fn find<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == type_ && c.status == "True")
}

pub(super) fn is_finished(job: &Job) -> bool {
    let status = job.status.as_ref();
    status.is_some_and(|s| find(s, "Complete").is_some() || find(s, "Failed").is_some())
}

pub(super) fn new_condition(type_: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// One look.
pub(super) struct Round {
    pub(super) job: Job,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) active: Vec<Arc<Pod>>,
    pub(super) uncounted_succeeded: HashSet<String>,
    pub(super) uncounted_failed: HashSet<String>,
    pub(super) active_count: i32,
    pub(super) ready: i32,
    pub(super) terminating: i32,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) before: Indexes,
    pub(super) indexes: Indexes,
    pub(super) failed_indexes: Option<Indexes>,
    /// By index, the failed pod whose finalizer stays until its successor is made, since it carries the count.
    pub(super) delayed: BTreeMap<i32, Arc<Pod>>,
    pub(super) record: Record,
    pub(super) finished: Option<JobCondition>,
    /// The group that new pods are scheduled with.
    pub(super) group: Option<Arc<PodGroup>>,
    pub(super) now: Timestamp,
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl Round {
    pub(super) fn new(job: Job, pods: Vec<Arc<Pod>>, record: &Record, now: Timestamp) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let active: Vec<Arc<Pod>> = pods.iter().filter(|p| pods::is_active(p)).cloned().collect();
        let ready = count(active.iter().filter(|p| pods::is_ready(p)).count());
        let terminating = count(pods.iter().filter(|p| pods::is_terminating(p)).count());
        let mut round = Self {
            active_count: count(active.len()),
            uncounted_succeeded: uncounted.succeeded.into_iter().flatten().collect(),
            uncounted_failed: uncounted.failed.into_iter().flatten().collect(),
            succeeded: 0,
            failed: 0,
            before: Indexes::default(),
            indexes: Indexes::default(),
            failed_indexes: None,
            delayed: BTreeMap::new(),
            record: Record::default(),
            finished: None,
            group: None,
            job,
            pods,
            active,
            ready,
            terminating,
            now,
        };
        let succeeded = round.fresh(&round.uncounted_succeeded, |p| pods::phase(p) == "Succeeded");
        let failed = round.fresh(&round.uncounted_failed, |p| is_failed(&round.job, p));
        let counted = failed.iter().filter(|p| counts(&round.job, p)).count();
        round.succeeded = status.succeeded.unwrap_or(0) + count(succeeded.len() + round.uncounted_succeeded.len());
        round.failed = status.failed.unwrap_or(0) + count(counted + round.uncounted_failed.len());
        round.record = record.with(&succeeded, &failed);
        round
    }

    /// Whether a pod's index is one of the job's; always so for jobs without indexes.
    pub(super) fn is_valid(&self, pod: &Pod) -> bool {
        !is_indexed(&self.job) || index(pod).is_some_and(|i| i < spec(&self.job).completions.unwrap_or(0))
    }

    fn fresh(&self, counted: &HashSet<String>, test: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
        let fresh = |p: &&Arc<Pod>| has_finalizer(p) && !counted.contains(p.uid()) && self.is_valid(p) && test(p);
        self.pods.iter().filter(fresh).cloned().collect()
    }

    /// Whether the job is over, and why.
    pub(super) fn judge(&mut self) {
        let status = self.job.status.clone().unwrap_or_default();
        let now = self.now;
        self.finished = find(&status, "SuccessCriteriaMet").cloned();
        if self.finished.is_none() {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            self.finished = match find(&status, "FailureTarget") {
                Some(target) => {
                    Some(new_condition("Failed", "True", &text(&target.reason), &text(&target.message), now))
                }
                None => self.failure(&status),
            };
        }
        if is_indexed(&self.job) {
            self.judge_indexes(&status);
        }
    }

    fn failure(&self, status: &JobStatus) -> Option<JobCondition> {
        let target =
            |reason: &str, message: &str| Some(new_condition("FailureTarget", "True", reason, message, self.now));
        let spec = spec(&self.job);
        if spec.pod_failure_policy.is_some() {
            for pod in self.pods.iter().filter(|p| is_failed(&self.job, p)) {
                if let Verdict::FailJob(message) = policy::judge(spec, pod) {
                    return target("PodFailurePolicy", &message);
                }
            }
        }
        let limit = spec.backoff_limit.unwrap_or(6);
        if self.failed > limit || self.restarts_exceed(limit) {
            return target("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        let (deadline, start) = (spec.active_deadline_seconds?, status.start_time.as_ref()?);
        let over = rt::time::between(start.0, self.now).as_secs() >= u64::try_from(deadline).unwrap_or(0);
        if over && !is_suspended(&self.job) {
            return target("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        None
    }

    /// With `OnFailure` the containers' restarts are the failures.
    fn restarts_exceed(&self, limit: i32) -> bool {
        let policy = spec(&self.job).template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let running = self.pods.iter().filter(|p| matches!(pods::phase(p), "Running" | "Pending"));
        let restarts: i32 = running
            .filter_map(|p| p.status.as_ref())
            .flat_map(|s| s.init_container_statuses.iter().flatten().chain(s.container_statuses.iter().flatten()))
            .map(|s| s.restart_count)
            .sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn judge_indexes(&mut self, status: &JobStatus) {
        let completions = spec(&self.job).completions.unwrap_or(0);
        let text = status.completed_indexes.as_deref().unwrap_or_default();
        self.before = Indexes::parse(text, completions);
        self.indexes = self.before.clone();
        for pod in self.pods.iter().filter(|p| has_finalizer(p) && pods::phase(p) == "Succeeded") {
            if let Some(index) = index(pod).filter(|i| *i < completions) {
                self.indexes.insert(index);
            }
        }
        self.succeeded = self.indexes.total();
        let target =
            |reason: &str, message: &str, now| Some(new_condition("FailureTarget", "True", reason, message, now));
        if per_index(&self.job) {
            let failed = self.failing(status, completions);
            if self.finished.is_none() {
                if spec(&self.job).max_failed_indexes.is_some_and(|most| failed.total() > most) {
                    let message = "Job has exceeded the specified maximal number of failed indexes";
                    self.finished = target("MaxFailedIndexesExceeded", message, self.now);
                } else if failed.total() > 0 && failed.total() + self.indexes.total() >= completions {
                    self.finished = target("FailedIndexes", "Job has failed indexes", self.now);
                }
            }
            self.failed_indexes = Some(failed);
            self.delay();
        }
        if self.finished.is_none()
            && let Some(message) = policy::success(spec(&self.job), &self.indexes)
        {
            self.finished = Some(new_condition("SuccessCriteriaMet", "True", "SuccessPolicy", &message, self.now));
        }
    }

    fn failing(&self, status: &JobStatus, completions: i32) -> Indexes {
        let mut failed = Indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions);
        let limit = spec(&self.job).backoff_limit_per_index.unwrap_or(0);
        for pod in self.pods.iter().filter(|p| has_finalizer(p) && is_failed(&self.job, p)) {
            let Some(index) = index(pod).filter(|i| *i < completions) else { continue };
            let over = match policy::judge(spec(&self.job), pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                Verdict::Count | Verdict::FailJob(_) => failures_of(pod, INDEX_FAILURES) >= limit,
            };
            if over {
                failed.insert(index);
            }
        }
        failed
    }

    fn delay(&mut self) {
        let active: Vec<i32> = self.active.iter().filter_map(|p| index(p)).collect();
        let failures = |pod: &Pod| failures_of(pod, INDEX_FAILURES) + failures_of(pod, INDEX_IGNORED);
        let mut delayed: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        for pod in self.pods.iter().filter(|p| has_finalizer(p) && self.is_valid(p) && is_failed(&self.job, p)) {
            let Some(index) = index(pod) else { continue };
            let over = self.indexes.has(index) || self.failed_indexes.as_ref().is_some_and(|f| f.has(index));
            if over || active.contains(&index) {
                continue;
            }
            let later = |other: &Arc<Pod>| failures(other) <= failures(pod) && finished_at(pod) >= finished_at(other);
            if delayed.get(&index).is_none_or(later) {
                delayed.insert(index, pod.clone());
            }
        }
        self.delayed = delayed;
    }

    /// The first indexes that nobody works on and that are not over.
    pub(super) fn pending(&self, most: i32) -> Vec<i32> {
        let mut taken: Vec<i32> = self.active.iter().filter_map(|p| index(p)).collect();
        if only_failed(&self.job) {
            taken.extend(self.pods.iter().filter(|p| pods::is_terminating(p)).filter_map(|p| index(p)));
        }
        let failed = self.failed_indexes.as_ref();
        let free = |i: &i32| !taken.contains(i) && !self.indexes.has(*i) && !failed.is_some_and(|f| f.has(*i));
        let all = 0..spec(&self.job).completions.unwrap_or(0);
        all.filter(free).take(usize::try_from(most).unwrap_or(0)).collect()
    }
}
