//! The mechanism of ReplicaSet and ReplicationController: keep so many pods of a template.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use api::k8s::core::v1::{Pod, PodTemplateSpec};
use api::metav1::Time;
use client::Error;
use futures::future::join_all;
use informer::{Informer, OwnWrites, Queue, run_workers};
use meta::selector::LabelSelector;
use rt::time::Timestamp;

use crate::frame::Context;
use crate::owner;
use crate::pods;
use crate::workload::follow::{self, BY_CONTROLLER};
use crate::workload::pod_control::{PodControl, namespace_terminating, pod_from_template, rank_for_deletion};
use crate::workload::writes::Writes;

/// Most pods that are made or deleted for one owner at a time, upstream's burst.
const BURST: usize = 500;

/// A kind that keeps replicas of a pod template.
pub(crate) trait Replicas: Kind {
    /// How many are wanted.
    fn desired(&self) -> usize;
    /// Which pods are its own; `None` is invalid and owns nothing.
    fn selector(&self) -> Option<LabelSelector>;
    /// The template.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// Seconds a pod must be ready to be available.
    fn min_ready_seconds(&self) -> i32;
    /// The status in ReplicaSet's form.
    fn status(&self) -> ReplicaSetStatus;
    /// The same object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
    /// The first part of the names of the controller's metrics, when upstream has the one of stale caches for it.
    fn subsystem() -> Option<&'static str>;
    /// Whether the kind's status counts terminating pods.
    fn counts_terminating() -> bool {
        true
    }
}

/// What to do now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
}

/// Compares what is there with what is wanted.
pub(crate) fn plan(desired: usize, active: Vec<Arc<Pod>>, related: &[Arc<Pod>]) -> Plan {
    let have = active.len();
    if have < desired {
        return Plan { create: (desired - have).min(BURST), delete: Vec::new() };
    }
    let surplus = (have - desired).min(BURST);
    let mut victims = if surplus == 0 { Vec::new() } else { rank_for_deletion(active, related) };
    victims.truncate(surplus);
    Plan { create: 0, delete: victims }
}

/// The status that the pods give, and when it changes by time alone.
pub(crate) fn status<R: Replicas>(
    owner: &R,
    claimed: &[Arc<Pod>],
    failure: Option<&(&'static str, String)>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let old = owner.status();
    let template = owner.template().and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone());
    let template = LabelSelector::from_pairs(template.unwrap_or_default());
    let active: Vec<&Arc<Pod>> = claimed.iter().filter(|p| pods::is_active(p)).collect();
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let some = |n: usize| Some(count(n)).filter(|n| *n != 0);
    let waits: Vec<Duration> =
        active.iter().filter_map(|p| pods::until_available(p, owner.min_ready_seconds(), now)).collect();
    let mut conditions = old.conditions.unwrap_or_default();
    let failing = conditions.iter().any(|c| c.type_ == "ReplicaFailure");
    match failure {
        Some((reason, message)) if !failing => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some((*reason).to_owned()),
            message: Some(message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        None => conditions.retain(|c| c.type_ != "ReplicaFailure"),
        Some(_) => {}
    }
    let status = ReplicaSetStatus {
        replicas: count(active.len()),
        fully_labeled_replicas: some(active.iter().filter(|p| template.matches_map(p.labels())).count()),
        ready_replicas: some(waits.len()),
        available_replicas: some(waits.iter().filter(|w| w.is_zero()).count()),
        terminating_replicas: R::counts_terminating()
            .then(|| count(claimed.iter().filter(|p| pods::is_terminating(p)).count())),
        observed_generation: owner.metadata().generation,
        conditions: Some(conditions).filter(|c| !c.is_empty()),
    };
    (status, waits.into_iter().filter(|w| !w.is_zero()).min())
}

struct Controller<R> {
    context: Context,
    owners: Informer<R>,
    pods: Informer<Pod>,
    queue: Arc<Queue<String>>,
    own: OwnWrites,
}

/// Runs the mechanism for one kind.
pub(crate) async fn run<R: Replicas>(name: &'static str, context: Context) {
    let owners = context.factory.informer::<R>();
    let pods = context.factory.informer::<Pod>();
    let queue = Arc::new(Queue::new());
    let woken = queue.clone();
    let own = OwnWrites::new(R::subsystem(), move |key| woken.add(key)).over(&owners).over(&pods);
    follow::follow(&owners, &pods, &queue, R::selector);
    let shutdown = context.shutdown.clone();
    let workers = context.options.workers;
    let controller =
        Arc::new(Controller { context, owners: owners.clone(), pods: pods.clone(), queue: queue.clone(), own });
    owners.synced().await;
    pods.synced().await;
    run_workers(name, queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

impl<R: Replicas> Controller<R> {
    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(owner) = self.owners.cache().get_key(key) else {
            self.own.forget(key);
            return Ok(());
        };
        let Some(selector) = owner.selector() else { return Ok(()) };
        if let Some(wait) = self.own.wait(key) {
            self.queue.add_after(key.to_owned(), wait);
            return Ok(());
        }
        let candidates = follow::candidates(&*owner, &self.pods);
        let client = &self.context.client;
        let claimed = owner::claim_all(client, &*owner, candidates, &selector, pods::is_active).await?;
        let failed = if owner.is_deleting() { None } else { self.act(key, &owner, &claimed).await };
        let failure = failed.as_ref().map(|(reason, error)| (*reason, error.chain()));
        self.write_status(key, &owner, &claimed, failure.as_ref()).await?;
        match failed {
            Some((_, error)) if !namespace_terminating(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn act(&self, key: &str, owner: &Arc<R>, claimed: &[Arc<Pod>]) -> Option<(&'static str, Error)> {
        let active: Vec<Arc<Pod>> = claimed.iter().filter(|p| pods::is_active(p)).cloned().collect();
        let related = if active.len() > owner.desired() { self.related(owner) } else { Vec::new() };
        let plan = plan(owner.desired(), active, &related);
        let control = PodControl { writes: self.writes(key), recorder: &self.context.recorder, owner: &**owner };
        if plan.create > 0 {
            let pod = pod_from_template(&**owner, owner.template()?);
            let batch = vec![pod; plan.create];
            let (_, error) = control.create_slow_start(&batch).await;
            return error.map(|error| ("FailedCreate", error));
        }
        let results = join_all(plan.delete.iter().map(|pod| control.delete(pod))).await;
        results.into_iter().find_map(Result::err).map(|error| ("FailedDelete", error))
    }

    fn writes<'a>(&'a self, key: &'a str) -> Writes<'a> {
        Writes { context: &self.context, own: &self.own, key }
    }

    /// Pods of owners with the same controller as this one (the Deployment's other ReplicaSets): a node
    /// that has several of them gives one up first.
    fn related(&self, owner: &R) -> Vec<Arc<Pod>> {
        let parent = owner.controller_ref().map(|r| r.uid.clone());
        let siblings = self.owners.cache().in_namespace(owner.namespace()).into_iter().filter(|other| {
            other.uid() == owner.uid()
                || (parent.is_some() && other.controller_ref().map(|r| &r.uid) == parent.as_ref())
        });
        siblings.flat_map(|s| self.pods.cache().by_index(BY_CONTROLLER, s.uid())).collect()
    }

    async fn write_status(
        &self,
        key: &str,
        owner: &Arc<R>,
        claimed: &[Arc<Pod>],
        failure: Option<&(&'static str, String)>,
    ) -> Result<(), Error> {
        let (status, wait) = status(&**owner, claimed, failure, rt::time::now());
        if let Some(wait) = wait {
            self.queue.add_after(key.to_owned(), wait);
        }
        if status == owner.status() {
            return Ok(());
        }
        match self.writes(key).update_status(&owner.with_status(status)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
