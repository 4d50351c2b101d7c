//! Making and removing a Job's pods.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::batch::v1::Job;
use api::k8s::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use client::Error;
use futures::future::join_all;
use rt::HashMap;

use super::backoff::{finished_at, wait};
use super::gang;
use super::policy::{Verdict, judge};
use super::round::{
    FINALIZER, INDEX, INDEX_FAILURES, INDEX_IGNORED, Round, failures_of, index, is_indexed, is_suspended, only_failed,
    per_index, spec,
};
use super::{Controller, Key};
use crate::pods;
use crate::workload::pod_control::{PodControl, namespace_terminating, pod_from_template, rank_for_deletion};

/// Most pods that are made or deleted in one pass.
const BURST: i32 = 500;
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Generated names have at most 63 characters, five of them random.
const PREFIX_ROOM: usize = 58;

fn expose_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|v| v.name == INDEX_VARIABLE) {
        return;
    }
    variables.push(EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: format!("metadata.labels['{INDEX}']"),
                api_version: None,
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    });
}

fn prefix(job: &str, index: i32) -> String {
    let tail = format!("-{index}-");
    format!("{}{tail}", &job[..job.len().min(PREFIX_ROOM.saturating_sub(tail.len()))])
}

fn new_pod(job: &Job) -> Pod {
    let mut pod = pod_from_template(job, &spec(job).template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    if is_indexed(job) {
        let spec = pod.spec.get_or_insert_default();
        spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(expose_index);
    }
    pod
}

fn give_index(job: &Job, mut pod: Pod, index: i32, before: Option<&Arc<Pod>>) -> Pod {
    let name = job.name();
    pod.metadata.generate_name = Some(prefix(name, index));
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if per_index(job) {
        let (mut failures, mut ignored) = (0, 0);
        if let Some(before) = before {
            failures = failures_of(before, INDEX_FAILURES);
            ignored = failures_of(before, INDEX_IGNORED);
            if judge(spec(job), before) == Verdict::Ignore { ignored += 1 } else { failures += 1 }
        }
        annotations.insert(INDEX_FAILURES.to_owned(), failures.to_string());
        if ignored > 0 {
            annotations.insert(INDEX_IGNORED.to_owned(), ignored.to_string());
        }
    }
    pod.spec.get_or_insert_default().hostname = Some(format!("{name}-{index}"));
    pod
}

/// The pods to give up: doubled or impossible indexes, and as many as are too many.
fn surplus(job: &Job, active: &[Arc<Pod>], at_least: i32) -> Vec<Arc<Pod>> {
    let at_least = usize::try_from(at_least).unwrap_or(0);
    let (mut remove, mut left) = (Vec::new(), Vec::new());
    if is_indexed(job) {
        let completions = spec(job).completions.unwrap_or(0);
        let mut by_index: HashMap<i32, Vec<Arc<Pod>>> = HashMap::default();
        for pod in active {
            match index(pod).filter(|i| *i < completions) {
                Some(index) => by_index.entry(index).or_default().push(pod.clone()),
                None => remove.push(pod.clone()),
            }
        }
        for same in by_index.into_values() {
            let mut ranked = rank_for_deletion(same, &[]);
            left.extend(ranked.pop());
            remove.extend(ranked);
        }
    } else {
        left = active.to_vec();
    }
    if remove.len() < at_least {
        let missing = at_least - remove.len();
        remove.extend(rank_for_deletion(left, &[]).into_iter().take(missing));
    }
    remove
}

impl Controller {
    /// Deletes pods; gives how many, how many of them were ready, and the first failure.
    pub(super) async fn delete_pods(&self, key: &str, job: &Job, pods: &[Arc<Pod>]) -> (i32, i32, Result<(), Error>) {
        let control = PodControl { writes: self.writes(key), recorder: &self.context.recorder, owner: job };
        let results = join_all(pods.iter().map(|pod| control.delete(pod))).await;
        let (mut deleted, mut ready, mut first) = (0, 0, Ok(()));
        for (pod, result) in pods.iter().zip(results) {
            match result {
                Ok(()) => {
                    deleted += 1;
                    ready += i32::from(pods::is_ready(pod));
                }
                Err(error) => first = first.and(Err(error)),
            }
        }
        (deleted, ready, first)
    }

    async fn reduce(&self, key: &str, round: &mut Round, remove: &[Arc<Pod>]) -> Result<(), Error> {
        // These do not count as failures: nothing holds them.
        let released = join_all(remove.iter().map(|pod| self.remove_finalizer(Some(key), pod))).await;
        released.into_iter().collect::<Result<(), Error>>()?;
        let (deleted, ready, result) = self.delete_pods(key, &round.job, remove).await;
        round.active_count -= deleted;
        round.terminating += deleted;
        round.ready -= ready;
        result
    }

    /// Brings the number of running pods to what is wanted.
    pub(super) async fn manage(&self, key: &str, round: &mut Round) -> Result<(), Error> {
        let spec = spec(&round.job).clone();
        let active = round.active_count;
        if is_suspended(&round.job) {
            let remove = surplus(&round.job, &round.active, active);
            return if remove.is_empty() { Ok(()) } else { self.reduce(key, round, &remove).await };
        }
        let parallelism = spec.parallelism.unwrap_or(1);
        let wanted = match spec.completions {
            None if round.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => (completions - round.succeeded).min(parallelism).max(0),
        };
        let mut remove = surplus(&round.job, &round.active, (active - wanted).max(0));
        if !remove.is_empty() {
            remove.truncate(usize::try_from(BURST).unwrap_or(0));
            return self.reduce(key, round, &remove).await;
        }
        let going = if only_failed(&round.job) { round.terminating } else { 0 };
        let missing = (wanted - going - active).min(BURST);
        if missing > 0 { self.grow(key, round, missing).await } else { Ok(()) }
    }

    async fn grow(&self, key: &str, round: &mut Round, missing: i32) -> Result<(), Error> {
        let job = &round.job;
        let later = |wait: Duration| self.queue.add_after(Key::Job(key.to_owned()), wait);
        if !per_index(job) {
            let wait = round.record.wait(round.now);
            if !wait.is_zero() {
                later(wait);
                return Ok(());
            }
        }
        let mut template = new_pod(job);
        if let Some(group) = &round.group {
            gang::join(&mut template, group);
        }
        let batch: Vec<Pod> = if is_indexed(job) {
            let (now, waiting) = self.ready_indexes(round, missing);
            if let Some(wait) = waiting {
                later(wait);
            }
            now.into_iter().map(|i| give_index(job, template.clone(), i, round.delayed.get(&i))).collect()
        } else {
            vec![template; usize::try_from(missing).unwrap_or(0)]
        };
        if batch.is_empty() {
            return Ok(());
        }
        let control = PodControl { writes: self.writes(key), recorder: &self.context.recorder, owner: job };
        let (made, error) = control.create_slow_start(&batch).await;
        round.active_count += i32::try_from(made).unwrap_or(i32::MAX);
        match error {
            Some(error) if namespace_terminating(&error) => {
                // No successor will ever be made: a pod that waited for one would hold up the namespace for good.
                round.delayed.clear();
                Ok(())
            }
            error => error.map_or(Ok(()), Err),
        }
    }

    /// The indexes whose time has come, and when the next one's comes.
    fn ready_indexes(&self, round: &Round, missing: i32) -> (Vec<i32>, Option<Duration>) {
        let (mut now, mut least) = (Vec::new(), None);
        for index in round.pending(missing) {
            let left = round.delayed.get(&index).map_or(Duration::ZERO, |pod| {
                let failures = failures_of(pod, INDEX_FAILURES) + failures_of(pod, INDEX_IGNORED) + 1;
                wait(failures.unsigned_abs(), finished_at(pod), round.now)
            });
            if left.is_zero() {
                now.push(index);
            } else {
                least = Some(least.map_or(left, |l: Duration| l.min(left)));
            }
        }
        (now, least)
    }
}
