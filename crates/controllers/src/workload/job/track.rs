//! Counting pods that have ended: uid into the status, finalizer off, count up.

use std::sync::Arc;

use api::Kind;
use api::k8s::batch::v1::{Job, JobStatus};
use api::k8s::core::v1::Pod;
use client::Error;
use futures::future::join_all;
use informer::EventType;
use rt::HashSet;

use super::round::{Round, counts, find, has_finalizer, index, is_failed, is_indexed, new_condition, per_index, spec};
use super::{Controller, set_condition};
use crate::pods;

/// Most pods that are counted at a time.
const MOST: usize = 500;

/// What is told apart when asking whether the status changed: upstream leaves zeros out.
fn normal(status: &JobStatus) -> JobStatus {
    let zero = |n: Option<i32>| Some(n.unwrap_or(0));
    let mut status = status.clone();
    status.active = zero(status.active);
    status.succeeded = zero(status.succeeded);
    status.failed = zero(status.failed);
    status.completed_indexes = status.completed_indexes.filter(|t| !t.is_empty());
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    uncounted.succeeded.get_or_insert_default();
    uncounted.failed.get_or_insert_default();
    status
}

/// Counts those whose finalizer is gone.
fn clean(status: &mut JobStatus, held: &HashSet<String>) {
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    for (list, total) in
        [(&mut uncounted.succeeded, &mut status.succeeded), (&mut uncounted.failed, &mut status.failed)]
    {
        let Some(uids) = list else { continue };
        let before = uids.len();
        uids.retain(|uid| held.contains(uid));
        let counted = i32::try_from(before - uids.len()).unwrap_or(i32::MAX);
        *total = Some(total.unwrap_or(0) + counted);
        *list = Some(std::mem::take(uids)).filter(|uids| !uids.is_empty());
    }
}

impl Round {
    fn may_release(&self, pod: &Pod) -> bool {
        if self.job.is_deleting() || self.finished.is_some() || pods::phase(pod) == "Succeeded" {
            return true;
        }
        if !is_failed(&self.job, pod) {
            return false;
        }
        let delayed = index(pod).and_then(|i| self.delayed.get(&i)).is_some_and(|p| p.uid() == pod.uid());
        !(per_index(&self.job) && delayed)
    }

    /// Writes newly ended pods into the status. Gives the pods to release, and whether more are left.
    fn collect(&mut self, status: &mut JobStatus) -> (Vec<Arc<Pod>>, bool) {
        let indexed = is_indexed(&self.job);
        let failing = self.finished.as_ref().is_some_and(|c| c.type_ != "SuccessCriteriaMet");
        let mut release = Vec::new();
        let mut ended = self.pods.clone();
        ended.sort_by_key(|p| index(p));
        let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
        let mut new = 0;
        for pod in ended {
            if !has_finalizer(&pod) || !self.may_release(&pod) {
                continue;
            }
            let (uid, valid) = (pod.uid().to_owned(), self.is_valid(&pod));
            if pods::phase(&pod) == "Succeeded" && !self.uncounted_failed.contains(&uid) {
                if indexed {
                    if let Some(index) = index(&pod).filter(|i| valid && !self.before.has(*i)) {
                        self.indexes.insert(index);
                        new += 1;
                    }
                } else if !self.uncounted_succeeded.contains(&uid) {
                    uncounted.succeeded.get_or_insert_default().push(uid);
                    new += 1;
                }
            } else if (is_failed(&self.job, &pod) || failing)
                && !self.uncounted_failed.contains(&uid)
                && valid
                && counts(&self.job, &pod)
            {
                uncounted.failed.get_or_insert_default().push(uid);
                new += 1;
            }
            release.push(pod);
            if new >= MOST {
                return (release, true);
            }
        }
        (release, false)
    }

    /// Says in the status that the job is ending, and what it will have ended as.
    fn announce(&mut self, status: &mut JobStatus) {
        let Some(condition) = self.finished.take() else { return };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (reason, message) = (text(&condition.reason), text(&condition.message));
        let last = match condition.type_.as_str() {
            "FailureTarget" => "Failed",
            "SuccessCriteriaMet" => "Complete",
            other => other,
        };
        if last != condition.type_ && find(status, &condition.type_).is_none() {
            status.conditions.get_or_insert_default().push(condition.clone());
        }
        self.finished = Some(new_condition(last, "True", &reason, &message, self.now));
    }
}

impl Controller {
    async fn write(&self, job: Job) -> Result<Job, Error> {
        let mut written = self.writes(&job.key()).update_status(&job).await?;
        written.metadata.managed_fields = None;
        Ok(written)
    }

    /// Writes the status in the order that loses no pod.
    pub(super) async fn track(&self, key: &str, mut round: Round, old: JobStatus) -> Result<(), Error> {
        let mut held: HashSet<String> =
            round.pods.iter().filter(|p| has_finalizer(p)).map(|p| p.uid().to_owned()).collect();
        let mut status = round.job.status.take().unwrap_or_default();
        status.active = Some(round.active_count);
        status.ready = Some(round.ready);
        status.terminating = Some(round.terminating);
        clean(&mut status, &held);
        let (release, more) = round.collect(&mut status);
        if is_indexed(&round.job) {
            status.succeeded = Some(round.indexes.total());
            status.completed_indexes = Some(round.indexes.text()).filter(|t| !t.is_empty());
            status.failed_indexes = round.failed_indexes.as_ref().map(super::indexes::Indexes::text);
        }
        round.announce(&mut status);
        let mut written = old;
        let mut job = round.job.clone();
        job.status = Some(status);
        if job.status.as_ref().map(normal) != Some(normal(&written)) {
            job = self.write(job).await?;
            written = job.status.clone().unwrap_or_default();
            self.backoff.lock().insert(key.to_owned(), round.record.clone());
        }
        let result = self.release(key, &release, &mut held).await;
        let mut status = job.status.take().unwrap_or_default();
        clean(&mut status, &held);
        let ended = result.is_ok() && !more && self.end(&round, &mut status);
        job.status = Some(status);
        if job.status.as_ref().map(normal) != Some(normal(&written)) {
            job = self.write(job).await?;
            if ended {
                self.report(&job, &round);
            }
        }
        result
    }

    async fn release(&self, key: &str, release: &[Arc<Pod>], held: &mut HashSet<String>) -> Result<(), Error> {
        if release.is_empty() {
            return Ok(());
        }
        let results = join_all(release.iter().map(|pod| self.remove_finalizer(Some(key), pod))).await;
        let mut first = Ok(());
        for (pod, result) in release.iter().zip(results) {
            match result {
                Ok(()) => {
                    held.remove(pod.uid());
                }
                Err(error) => first = first.and(Err(error)),
            }
        }
        first
    }

    /// Whether the end can be said: all is counted and nothing runs any more.
    fn end(&self, round: &Round, status: &mut JobStatus) -> bool {
        let Some(condition) = &round.finished else { return false };
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let open = uncounted.succeeded.into_iter().chain(uncounted.failed).flatten().count();
        if open > 0 || round.terminating > 0 {
            return false;
        }
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (reason, message) = (text(&condition.reason), text(&condition.message));
        set_condition(status, &condition.type_, "True", &reason, &message, round.now);
        if condition.type_ == "Complete" {
            status.completion_time.clone_from(&condition.last_transition_time);
        }
        true
    }

    fn report(&self, job: &Job, round: &Round) {
        let Some(condition) = &round.finished else { return };
        let recorder = &self.context.recorder;
        if condition.type_ == "Complete" {
            let succeeded = job.status.as_ref().and_then(|s| s.succeeded).unwrap_or(0);
            if spec(job).completions.is_some_and(|wanted| succeeded > wanted) {
                let message = "Too many succeeded pods running after completion count reached";
                recorder.event(job, EventType::Warning, "TooManySucceededPods", message);
            }
            recorder.event(job, EventType::Normal, "Completed", "Job completed");
        } else {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            recorder.event(job, EventType::Warning, &text(&condition.reason), text(&condition.message));
        }
    }
}
