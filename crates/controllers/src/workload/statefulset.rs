//! StatefulSet: pods with a number, a name and claims of their own.
//!
//! One pass looks at every number: a missing pod is made, an ended one replaced, one that should not be is deleted from
//! the highest number down. `OrderedReady` stops at the first pod that is not available, `Parallel` does not.

mod claims;
mod identity;
mod round;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use api::k8s::core::v1::{PersistentVolumeClaim, Pod};
use client::Error;
use informer::{EventType, Informer, OwnWrites, Queue, run_workers};

use crate::frame::Context;
use crate::workload::follow;
use crate::workload::history::{self, Naming};
use crate::workload::writes::Writes;
use crate::{owner, pods};

use self::round::Round;

const HASH_LABEL: &str = "controller.kubernetes.io/hash";

struct Controller {
    context: Context,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
    queue: Arc<Queue<String>>,
    own: OwnWrites,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let (sets, pods) = (factory.informer::<StatefulSet>(), factory.informer::<Pod>());
    let claims = factory.informer::<PersistentVolumeClaim>();
    let revisions = factory.informer::<ControllerRevision>();
    revisions.add_index(follow::BY_CONTROLLER, follow::by_controller);
    let queue = Arc::new(Queue::new());
    let woken = queue.clone();
    let own = OwnWrites::new(Some("statefulset_controller"), move |key| woken.add(key));
    let own = own.over(&sets).over(&pods).over(&claims);
    follow::follow(&sets, &pods, &queue, |set| set.spec.as_ref().map(|s| owner::selector_of(&s.selector)));
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller { context, sets, pods, claims, revisions, queue: queue.clone(), own });
    controller.sets.synced().await;
    controller.pods.synced().await;
    controller.claims.synced().await;
    controller.revisions.synced().await;
    run_workers("statefulset", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

impl Controller {
    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(set) = self.sets.cache().get_key(key) else {
            self.own.forget(key);
            return Ok(());
        };
        let Some(spec) = &set.spec else { return Ok(()) };
        if let Some(wait) = self.own.wait(key) {
            self.queue.add_after(key.to_owned(), wait);
            return Ok(());
        }
        let client = &self.context.client;
        let selector = owner::selector_of(&spec.selector);
        let revisions = history::list(client, &self.revisions, &*set, &selector).await?;
        let mut candidates = follow::candidates(&*set, &self.pods);
        candidates.retain(|pod| identity::split(pod.name()).is_some_and(|(parent, _)| parent == set.name()));
        let claimed = owner::claim_all(client, &*set, candidates, &selector, |_| true).await?;
        let mut collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let naming =
            Naming { hash_label: HASH_LABEL, annotations: set.metadata.annotations.clone().unwrap_or_default() };
        let update = history::current(client, &*set, &spec.template, &revisions, &naming, &mut collisions).await?;
        let current_name = set.status.as_ref().and_then(|s| s.current_revision.as_deref()).unwrap_or_default();
        let current = revisions.iter().find(|r| r.name() == current_name).unwrap_or(&update).clone();
        let round = Round::new(&set, &claimed, current.clone(), update.clone(), rt::time::now());
        let (deleted_current, result) = self.act(&round).await;
        let mut status = round.status(collisions);
        status.current_replicas = status.current_replicas.map(|n| n - deleted_current);
        self.write_status(&round, status).await?;
        result?;
        let in_use = |r: &ControllerRevision| {
            r.name() == current.name()
                || r.name() == update.name()
                || claimed.iter().any(|p| p.label(history::REVISION_LABEL) == Some(r.name()))
        };
        history::truncate(client, &revisions, spec.revision_history_limit.unwrap_or(10), in_use).await
    }

    async fn write_status(&self, round: &Round<'_>, mut status: StatefulSetStatus) -> Result<(), Error> {
        let set = round.set;
        round.complete(&mut status);
        if let Some(wait) = round.next_available() {
            self.queue.add_after(set.key(), wait + Duration::from_millis(100));
        }
        let old = set.status.clone().unwrap_or_default();
        status.conditions.clone_from(&old.conditions);
        let zeroes = |s: &StatefulSetStatus| {
            let n = |v: Option<i32>| v.unwrap_or(0);
            (
                s.replicas,
                [
                    n(s.ready_replicas),
                    n(s.current_replicas),
                    n(s.updated_replicas),
                    n(s.available_replicas),
                    n(s.collision_count),
                ],
                s.current_revision.clone(),
                s.update_revision.clone(),
                s.observed_generation,
            )
        };
        if zeroes(&old) == zeroes(&status) {
            return Ok(());
        }
        let changed = StatefulSet { status: Some(status), ..set.clone() };
        match self.writes(&set.key()).update_status(&changed).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn writes<'a>(&'a self, key: &'a str) -> Writes<'a> {
        Writes { context: &self.context, own: &self.own, key }
    }

    fn event(&self, set: &StatefulSet, verb: &str, pod: &str, error: Option<&Error>) {
        let reason = |outcome: &str| {
            let mut letters = verb.chars();
            let head: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            format!("{outcome}{head}{}", letters.as_str())
        };
        let (kind, reason, message) = match error {
            None => (
                EventType::Normal,
                reason("Successful"),
                format!("{verb} Pod {pod} in StatefulSet {} successful", set.name()),
            ),
            Some(error) => (
                EventType::Warning,
                reason("Failed"),
                format!("{verb} Pod {pod} in StatefulSet {} failed error: {}", set.name(), error.chain()),
            ),
        };
        self.context.recorder.event(set, kind, &reason, message);
    }
}

/// Labels of the selector, which claims carry as well.
fn selector_labels(set: &StatefulSet) -> BTreeMap<String, String> {
    set.spec.as_ref().and_then(|s| s.selector.match_labels.clone()).unwrap_or_default()
}

fn is_created(pod: &Pod) -> bool {
    !pods::phase(pod).is_empty()
}
