//! Deployment: rolls a pod template out by growing one ReplicaSet and shrinking the others.
//!
//! Follows upstream's rules for revisions, proportional scaling, progress and clean-up; `kubectl rollout` reads the
//! annotations and conditions written here.

mod plan;
mod replica_sets;
mod status;

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use api::k8s::core::v1::Pod;
use client::{DeleteOptions, Error};
use informer::{Delta, EventType, Informer, OwnWrites, Queue, run_workers};
use rt::time::Timestamp;

use crate::frame::Context;
use crate::owner;
use crate::workload::deployment::replica_sets::Sets;
use crate::workload::follow::{self, BY_CONTROLLER};
use crate::workload::pod_control::namespace_terminating;
use crate::workload::writes::Writes;

struct Controller {
    context: Context,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    queue: Arc<Queue<String>>,
    own: OwnWrites,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let (deployments, sets, pods) =
        (factory.informer::<Deployment>(), factory.informer::<ReplicaSet>(), factory.informer::<Pod>());
    pods.add_index(BY_CONTROLLER, follow::by_controller);
    let queue = Arc::new(Queue::new());
    let woken = queue.clone();
    let own = OwnWrites::new(None, move |key| woken.add(key)).over(&deployments).over(&sets);
    follow::follow(&deployments, &sets, &queue, |deployment| Some(plan::selector(deployment)));
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller {
        context,
        deployments: deployments.clone(),
        sets: sets.clone(),
        pods: pods.clone(),
        queue: queue.clone(),
        own,
    });
    let of_pod = Arc::downgrade(&controller);
    pods.add_handler(move |delta| {
        if let (Some(controller), Delta::Deleted(pod)) = (of_pod.upgrade(), delta) {
            controller.pod_deleted(pod);
        }
    });
    deployments.synced().await;
    sets.synced().await;
    pods.synced().await;
    run_workers("deployment", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

/// Everything one sync looks at.
struct Rollout {
    deployment: Deployment,
    sets: Sets,
    now: Timestamp,
}

impl Controller {
    /// A Recreate rollout waits for the last old pod to go.
    fn pod_deleted(&self, pod: &Pod) {
        let Some(reference) = pod.controller_ref().filter(|r| r.kind == "ReplicaSet") else { return };
        let Some(set) = self.sets.cache().get(pod.namespace(), &reference.name) else { return };
        if let Some(deployment) = follow::owner_of(&self.deployments, &*set)
            && plan::is_recreate(&deployment)
        {
            self.queue.add(deployment.key());
        }
    }

    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(deployment) = self.deployments.cache().get_key(key) else {
            self.own.forget(key);
            return Ok(());
        };
        let selector = plan::selector(&deployment);
        if selector.is_everything() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.context.recorder.event(&*deployment, EventType::Warning, "SelectingAll", message);
            return Ok(());
        }
        if let Some(wait) = self.own.wait(key) {
            self.queue.add_after(key.to_owned(), wait);
            return Ok(());
        }
        let candidates = follow::candidates(&*deployment, &self.sets);
        let claimed = owner::claim_all(&self.context.client, &*deployment, candidates, &selector, |_| true).await?;
        let sets = Sets::new(&deployment, claimed);
        let rollout = Rollout { deployment: (*deployment).clone(), sets, now: rt::time::now() };
        match self.step(rollout).await {
            Err(error) if namespace_terminating(&error) => Ok(()),
            other => other,
        }
    }

    async fn step(&self, mut rollout: Rollout) -> Result<(), Error> {
        if rollout.deployment.is_deleting() {
            return self.write_plain_status(&rollout).await;
        }
        if let Some(status) = status::with_paused_condition(&rollout.deployment, rollout.now) {
            rollout.deployment = self.write(&rollout.deployment, status).await?;
        }
        let paused = plan::is_paused(&rollout.deployment);
        if paused || plan::is_scaling_event(&rollout) {
            self.sync_revision(&mut rollout, false).await?;
            self.scale_proportionally(&rollout).await?;
            if paused {
                self.clean_up(&rollout).await?;
            }
            let rollout = self.refreshed(rollout);
            return self.write_plain_status(&rollout).await;
        }
        if plan::is_recreate(&rollout.deployment) {
            self.recreate(rollout).await
        } else {
            self.rolling_update(rollout).await
        }
    }

    async fn rolling_update(&self, mut rollout: Rollout) -> Result<(), Error> {
        self.sync_revision(&mut rollout, true).await?;
        if let Some(target) = plan::scale_new(&rollout) {
            self.scale_new_set(&mut rollout, target).await?;
            return self.write_progress(&rollout).await;
        }
        let targets = plan::scale_old(&rollout);
        if !targets.is_empty() {
            self.scale_all(&rollout, targets, false).await?;
            return self.write_progress(&rollout).await;
        }
        if status::is_complete(&rollout.deployment, &status::calculate(&rollout)) {
            self.clean_up(&rollout).await?;
        }
        self.write_progress(&rollout).await
    }

    async fn recreate(&self, mut rollout: Rollout) -> Result<(), Error> {
        self.sync_revision(&mut rollout, false).await?;
        let down: Vec<_> =
            rollout.sets.old.iter().filter(|s| plan::spec_replicas(s) > 0).map(|s| (s.clone(), 0)).collect();
        if !down.is_empty() {
            self.scale_all(&rollout, down, false).await?;
            return self.write_progress(&rollout).await;
        }
        let new = rollout.sets.new.as_ref().map(|s| s.uid().to_owned());
        let old_pods = rollout.sets.all().filter(|s| Some(s.uid()) != new.as_deref()).any(|set| {
            self.pods.cache().by_index(BY_CONTROLLER, set.uid()).iter().any(|pod| !crate::pods::is_terminal(pod))
        });
        if old_pods {
            return self.write_progress(&rollout).await;
        }
        self.sync_revision(&mut rollout, true).await?;
        let desired = plan::replicas(&rollout.deployment);
        if rollout.sets.new.as_ref().is_some_and(|set| plan::spec_replicas(set) != desired) {
            self.scale_new_set(&mut rollout, desired).await?;
        }
        if status::is_complete(&rollout.deployment, &status::calculate(&rollout)) {
            self.clean_up(&rollout).await?;
        }
        self.write_progress(&rollout).await
    }

    /// The rollout with the newest ReplicaSets that the cache has.
    fn refreshed(&self, mut rollout: Rollout) -> Rollout {
        rollout.sets.refresh(self.sets.cache());
        rollout
    }

    async fn scale_all(
        &self,
        rollout: &Rollout,
        targets: Vec<(Arc<ReplicaSet>, i32)>,
        force: bool,
    ) -> Result<(), Error> {
        for (set, target) in targets {
            self.scale(rollout, &set, target, force).await?;
        }
        Ok(())
    }

    async fn scale_new_set(&self, rollout: &mut Rollout, target: i32) -> Result<(), Error> {
        if let Some(set) = rollout.sets.new.clone() {
            rollout.sets.new = Some(self.scale(rollout, &set, target, false).await?);
        }
        Ok(())
    }

    async fn scale(
        &self,
        rollout: &Rollout,
        set: &Arc<ReplicaSet>,
        target: i32,
        force: bool,
    ) -> Result<Arc<ReplicaSet>, Error> {
        let before = plan::spec_replicas(set);
        if !force && before == target {
            return Ok(set.clone());
        }
        let mut changed = (**set).clone();
        let annotated = replica_sets::annotate_size(&mut changed, &rollout.deployment);
        if before == target && !annotated {
            return Ok(set.clone());
        }
        changed.spec.get_or_insert_default().replicas = Some(target);
        let changed = self.writes(&rollout.deployment.key()).update(&changed).await?;
        if before != target {
            let direction = if before < target { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {} from {before} to {target}", set.name());
            self.context.recorder.event(&rollout.deployment, EventType::Normal, "ScalingReplicaSet", message);
        }
        Ok(Arc::new(changed))
    }

    fn writes<'a>(&'a self, key: &'a str) -> Writes<'a> {
        Writes { context: &self.context, own: &self.own, key }
    }

    async fn scale_proportionally(&self, rollout: &Rollout) -> Result<(), Error> {
        let (targets, force) = plan::scale_event(rollout);
        self.scale_all(rollout, targets, force).await
    }

    async fn clean_up(&self, rollout: &Rollout) -> Result<(), Error> {
        for set in plan::expired(rollout) {
            match self.writes(&rollout.deployment.key()).delete(&*set, &DeleteOptions::default()).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    async fn write(&self, deployment: &Deployment, status: DeploymentStatus) -> Result<Deployment, Error> {
        let changed = Deployment { status: Some(status), ..deployment.clone() };
        let mut written: Deployment = self.writes(&deployment.key()).update_status(&changed).await?;
        written.metadata.managed_fields = None;
        Ok(written)
    }

    async fn write_plain_status(&self, rollout: &Rollout) -> Result<(), Error> {
        let status = status::calculate(rollout);
        if rollout.deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        self.write(&rollout.deployment, status).await.map(drop)
    }

    async fn write_progress(&self, rollout: &Rollout) -> Result<(), Error> {
        let status = status::progress(rollout);
        if rollout.deployment.status.as_ref() != Some(&status) {
            return self.write(&rollout.deployment, status).await.map(drop);
        }
        if let Some(wait) = status::next_progress_check(&rollout.deployment, &status, rollout.now) {
            self.queue.add_after(rollout.deployment.key(), wait + Duration::from_secs(1));
        }
        Ok(())
    }
}
