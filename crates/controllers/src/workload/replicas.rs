//! The mechanism of ReplicaSet and ReplicationController: keep so many pods of a template.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use api::k8s::core::v1::{Pod, PodTemplateSpec};
use api::metav1::Time;
use client::Error;
use futures::future::join_all;
use informer::{Delta, Expectations, Informer, Queue, run_workers};
use meta::selector::LabelSelector;
use rt::time::Timestamp;

use crate::frame::Context;
use crate::owner;
use crate::pods;
use crate::workload::pod_control::{PodControl, namespace_terminating, pod_from_template, rank_for_deletion};

/// Most pods that are made or deleted for one owner at a time, upstream's burst.
const BURST: usize = 500;
/// The index of pods by the uid of their controller; orphans are under their namespace.
const BY_CONTROLLER: &str = "controller";

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
    expectations: Expectations,
}

/// Runs the mechanism for one kind.
pub(crate) async fn run<R: Replicas>(name: &'static str, context: Context) {
    let owners = context.factory.informer::<R>();
    let pods = context.factory.informer::<Pod>();
    pods.add_index(BY_CONTROLLER, by_controller);
    let queue = Arc::new(Queue::new());
    let shutdown = context.shutdown.clone();
    let workers = context.options.workers;
    let controller = Arc::new(Controller {
        context,
        owners: owners.clone(),
        pods: pods.clone(),
        queue: queue.clone(),
        expectations: Expectations::new(),
    });
    let (of_owner, of_pod) = (Arc::downgrade(&controller), Arc::downgrade(&controller));
    owners.add_handler(move |delta| {
        if let Some(controller) = of_owner.upgrade() {
            controller.owner_changed(delta);
        }
    });
    pods.add_handler(move |delta| {
        if let Some(controller) = of_pod.upgrade() {
            controller.pod_changed(delta);
        }
    });
    owners.synced().await;
    pods.synced().await;
    run_workers(name, queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

/// Index values of a pod: its controller's uid, or `orphan/<namespace>`.
pub(crate) fn by_controller(pod: &Pod) -> Vec<String> {
    match pod.controller_ref() {
        Some(reference) => vec![reference.uid.clone()],
        None => vec![format!("orphan/{}", pod.namespace())],
    }
}

impl<R: Replicas> Controller<R> {
    fn owner_changed(&self, delta: &Delta<R>) {
        let key = delta.object().key();
        if let Delta::Deleted(_) = delta {
            self.expectations.forget(&key);
        }
        self.queue.add(key);
    }

    fn owner_of(&self, pod: &Pod) -> Option<Arc<R>> {
        let reference = pod.controller_ref()?;
        if reference.kind != R::KIND {
            return None;
        }
        self.owners.cache().get(pod.namespace(), &reference.name).filter(|owner| owner.uid() == reference.uid)
    }

    fn pod_changed(&self, delta: &Delta<Pod>) {
        match delta {
            Delta::Added(pod) if pod.is_deleting() => self.gone(pod),
            Delta::Added(pod) => match self.owner_of(pod) {
                Some(owner) => {
                    self.expectations.creation_observed(&owner.key());
                    self.queue.add(owner.key());
                }
                None if pod.controller_ref().is_none() => self.offer(pod),
                None => {}
            },
            Delta::Updated { old, new } if new.is_deleting() && !old.is_deleting() => self.gone(new),
            Delta::Updated { old, new } => {
                if old.controller_ref() != new.controller_ref()
                    && let Some(former) = self.owner_of(old)
                {
                    self.queue.add(former.key());
                }
                match self.owner_of(new) {
                    Some(owner) => {
                        self.queue.add(owner.key());
                        if !pods::is_ready(old) && pods::is_ready(new) && owner.min_ready_seconds() > 0 {
                            let seconds = owner.min_ready_seconds().unsigned_abs();
                            self.queue.add_after(owner.key(), Duration::from_secs(u64::from(seconds) + 1));
                        }
                    }
                    None if new.controller_ref().is_none() => self.offer(new),
                    None => {}
                }
            }
            Delta::Deleted(pod) => self.gone(pod),
        }
    }

    fn gone(&self, pod: &Pod) {
        if let Some(owner) = self.owner_of(pod) {
            self.expectations.deletion_observed(&owner.key(), pod.uid());
            self.queue.add(owner.key());
        }
    }

    /// An orphan: whoever's selector matches may want it.
    fn offer(&self, pod: &Pod) {
        for owner in self.owners.cache().in_namespace(pod.namespace()) {
            if owner.selector().is_some_and(|s| s.matches_map(pod.labels())) {
                self.queue.add(owner.key());
            }
        }
    }

    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(owner) = self.owners.cache().get_key(key) else {
            self.expectations.forget(key);
            return Ok(());
        };
        let Some(selector) = owner.selector() else { return Ok(()) };
        let unseen = self.expectations.wait(key);
        let may_act = unseen.is_none();
        if let Some(wait) = unseen {
            self.queue.add_after(key.to_owned(), wait);
        }
        let cache = self.pods.cache();
        let mut candidates = cache.by_index(BY_CONTROLLER, owner.uid());
        candidates.extend(cache.by_index(BY_CONTROLLER, &format!("orphan/{}", owner.namespace())));
        let client = &self.context.client;
        let claimed = owner::claim_all(client, &*owner, candidates, &selector, pods::is_active).await?;
        let failed = if may_act && !owner.is_deleting() { self.act(key, &owner, &claimed).await } else { None };
        let failure = failed.as_ref().map(|(reason, error)| (*reason, error.chain()));
        self.write_status(&owner, &claimed, failure.as_ref()).await?;
        match failed {
            Some((_, error)) if !namespace_terminating(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn act(&self, key: &str, owner: &Arc<R>, claimed: &[Arc<Pod>]) -> Option<(&'static str, Error)> {
        let active: Vec<Arc<Pod>> = claimed.iter().filter(|p| pods::is_active(p)).cloned().collect();
        let related = if active.len() > owner.desired() { self.related(owner) } else { Vec::new() };
        let plan = plan(owner.desired(), active, &related);
        let control = PodControl { client: &self.context.client, recorder: &self.context.recorder, owner: &**owner };
        if plan.create > 0 {
            let pod = pod_from_template(&**owner, owner.template()?);
            let batch = vec![pod; plan.create];
            self.expectations.expect_creations(key, plan.create);
            let (made, error) = control.create_slow_start(&batch).await;
            (made..plan.create).for_each(|_| self.expectations.creation_observed(key));
            return error.map(|error| ("FailedCreate", error));
        }
        if plan.delete.is_empty() {
            return None;
        }
        self.expectations.expect_deletions(key, plan.delete.iter().map(|p| p.uid().to_owned()));
        let results = join_all(plan.delete.iter().map(|pod| control.delete(pod))).await;
        let mut failed = None;
        for (pod, result) in plan.delete.iter().zip(results) {
            if let Err(error) = result {
                self.expectations.deletion_observed(key, pod.uid());
                failed = Some(("FailedDelete", error));
            }
        }
        failed
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
        owner: &Arc<R>,
        claimed: &[Arc<Pod>],
        failure: Option<&(&'static str, String)>,
    ) -> Result<(), Error> {
        let (status, wait) = status(&**owner, claimed, failure, rt::time::now());
        if let Some(wait) = wait {
            self.queue.add_after(owner.key(), wait);
        }
        if status == owner.status() {
            return Ok(());
        }
        match self.context.client.update_status(&owner.with_status(status)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
