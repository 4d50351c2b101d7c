//! One look at a StatefulSet, and what is done about it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus};
use api::k8s::core::v1::Pod;
use client::{DeleteOptions, Error};
use futures::future::join_all;
use rt::time::Timestamp;

use super::{Controller, identity, is_created};
use crate::pods;
use crate::workload::history::{REVISION_LABEL, template_of};
use crate::workload::share::resolve;

/// One look at a set: its pods by number.
pub(super) struct Round<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) spec: &'a StatefulSetSpec,
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
    /// One per wanted number, lowest first; those that do not exist yet as they would be made.
    replicas: Vec<Arc<Pod>>,
    /// Beyond the wanted numbers, highest first.
    condemned: Vec<Arc<Pod>>,
    claimed: &'a [Arc<Pod>],
    now: Timestamp,
}

fn start(spec: &StatefulSetSpec) -> i32 {
    spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
}

fn rolling(spec: &StatefulSetSpec) -> bool {
    spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()).unwrap_or("RollingUpdate") == "RollingUpdate"
}

fn revision(pod: &Pod) -> &str {
    pod.label(REVISION_LABEL).unwrap_or_default()
}

fn ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

impl<'a> Round<'a> {
    pub(super) fn new(
        set: &'a StatefulSet,
        claimed: &'a [Arc<Pod>],
        current: Arc<ControllerRevision>,
        update: Arc<ControllerRevision>,
        now: Timestamp,
    ) -> Self {
        static NONE: std::sync::LazyLock<StatefulSetSpec> = std::sync::LazyLock::new(StatefulSetSpec::default);
        let spec = set.spec.as_ref().unwrap_or(&NONE);
        let (first, count) = (start(spec), spec.replicas.unwrap_or(1));
        let wanted = |ordinal: i32| ordinal >= first && ordinal - first < count;
        let mut round = Self { set, spec, current, update, replicas: Vec::new(), condemned: Vec::new(), claimed, now };
        round.replicas = (first..first + count)
            .map(|ordinal| {
                let found = claimed.iter().find(|pod| identity::ordinal(pod) == ordinal);
                found.cloned().unwrap_or_else(|| Arc::new(round.missing(ordinal)))
            })
            .collect();
        round.condemned = claimed.iter().filter(|p| !wanted(identity::ordinal(p))).cloned().collect();
        round.condemned.sort_by_key(|pod| Reverse(identity::ordinal(pod)));
        round
    }

    /// Numbers below the partition keep the old template.
    fn missing(&self, ordinal: i32) -> Pod {
        let strategy = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let kept = match strategy {
            Some(strategy) => strategy.partition.unwrap_or(0),
            None => self.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0),
        };
        let old = rolling(self.spec) && ordinal < start(self.spec) + kept;
        let of = if old { &self.current } else { &self.update };
        let template = template_of(of).unwrap_or_else(|| self.spec.template.clone());
        identity::make(self.set, &template, of.name(), ordinal)
    }

    fn min_ready(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready(), self.now)
    }

    fn unavailable(&self, pod: &Pod) -> bool {
        !self.available(pod) || pod.is_deleting()
    }

    fn ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    pub(super) fn is_condemned(&self, pod: &Pod) -> bool {
        self.condemned.iter().any(|p| p.name() == pod.name())
    }

    fn first_unavailable(&self) -> Option<&Arc<Pod>> {
        self.replicas.iter().chain(self.condemned.iter().rev()).find(|pod| self.unavailable(pod))
    }

    /// When the next pod becomes available by time alone.
    pub(super) fn next_available(&self) -> Option<Duration> {
        let waits = self.claimed.iter().filter_map(|p| pods::until_available(p, self.min_ready(), self.now));
        waits.filter(|wait| !wait.is_zero()).min()
    }

    pub(super) fn status(&self, collisions: i32) -> StatefulSetStatus {
        let count = |test: &dyn Fn(&Pod) -> bool| {
            i32::try_from(self.claimed.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
        };
        let of = |name: &str| count(&|pod: &Pod| is_created(pod) && !pod.is_deleting() && revision(pod) == name);
        StatefulSetStatus {
            replicas: count(&is_created),
            ready_replicas: Some(count(&ready)),
            available_replicas: Some(count(&|pod: &Pod| ready(pod) && self.available(pod))),
            current_replicas: Some(of(self.current.name())),
            updated_replicas: Some(of(self.update.name())),
            current_revision: Some(self.current.name().to_owned()),
            update_revision: Some(self.update.name().to_owned()),
            observed_generation: self.set.metadata.generation,
            collision_count: Some(collisions),
            conditions: None,
        }
    }

    /// A rollout that is done makes the new revision the current one.
    pub(super) fn complete(&self, status: &mut StatefulSetStatus) {
        let want = self.spec.replicas.unwrap_or(1);
        let done = status.updated_replicas == Some(want) && status.ready_replicas == Some(want);
        if rolling(self.spec) && done && status.replicas == want {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(&status.update_revision);
        }
    }

    /// The pods that a rolling update replaces now, highest number first.
    fn outdated(&self) -> Vec<&Arc<Pod>> {
        if !rolling(self.spec) {
            return Vec::new();
        }
        let strategy = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let partition = usize::try_from(strategy.and_then(|s| s.partition).unwrap_or(0)).unwrap_or(0);
        let total = i32::try_from(self.replicas.len()).unwrap_or(i32::MAX);
        let at_most = match strategy.and_then(|s| s.max_unavailable.as_ref()) {
            Some(limit) => usize::try_from(resolve(Some(limit), total, false)).unwrap_or(1).max(1),
            None => 1,
        };
        let down = self.replicas.iter().filter(|pod| self.unavailable(pod)).count();
        let old = self.replicas.iter().skip(partition).rev();
        old.filter(|pod| revision(pod) != self.update.name() && !pod.is_deleting())
            .take(at_most.saturating_sub(down))
            .collect()
    }
}

#[derive(Clone, Copy)]
enum Stage {
    Replicas,
    Claims,
    Condemned,
}

impl Controller {
    /// One pass. Gives how many pods of the current revision were deleted for the update.
    pub(super) async fn act(&self, round: &Round<'_>) -> (i32, Result<(), Error>) {
        if round.set.is_deleting() {
            return (0, Ok(()));
        }
        for stage in [Stage::Replicas, Stage::Claims, Stage::Condemned] {
            match self.stage(stage, round).await {
                Ok(false) => {}
                Ok(true) => return (0, Ok(())),
                Err(error) => return (0, Err(error)),
            }
        }
        let mut deleted = 0;
        for pod in round.outdated() {
            if let Err(error) = self.delete(round, pod).await {
                return (deleted, Err(error));
            }
            deleted += 1;
        }
        (deleted, Ok(()))
    }

    /// Whether the pass is to end here.
    async fn stage(&self, stage: Stage, round: &Round<'_>) -> Result<bool, Error> {
        let pods = if matches!(stage, Stage::Replicas) { &round.replicas } else { &round.condemned };
        if round.ordered() {
            for pod in pods {
                if self.step(stage, round, pod).await? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let (mut at, mut batch) = (0, 1);
        while at < pods.len() {
            let end = (at + batch).min(pods.len());
            let results = join_all(pods[at..end].iter().map(|pod| self.step(stage, round, pod))).await;
            results.into_iter().collect::<Result<Vec<bool>, Error>>()?;
            (at, batch) = (end, batch * 2);
        }
        Ok(false)
    }

    async fn step(&self, stage: Stage, round: &Round<'_>, pod: &Arc<Pod>) -> Result<bool, Error> {
        match stage {
            Stage::Replicas => self.keep(round, pod).await,
            Stage::Claims => self.fix_owners(round, pod).await.map(|()| false),
            Stage::Condemned => self.condemn(round, pod).await,
        }
    }

    async fn keep(&self, round: &Round<'_>, pod: &Arc<Pod>) -> Result<bool, Error> {
        if pods::is_terminal(pod) {
            if !pod.is_deleting() {
                self.delete(round, pod).await?;
            }
            return Ok(true);
        }
        if !is_created(pod) && pod.uid().is_empty() {
            if self.claim_is_stale(round, pod) {
                return Ok(true);
            }
            let made = self.create(round, pod).await;
            self.event(round.set, "create", pod.name(), made.as_ref().err());
            made?;
            return Ok(round.ordered());
        }
        if pods::phase(pod) == "Pending" {
            self.create_claims(round.set, identity::ordinal(pod)).await?;
        }
        if round.ordered() && (pod.is_deleting() || !ready(pod) || !round.available(pod)) {
            return Ok(true);
        }
        self.fix_owners(round, pod).await?;
        if identity::is_identified(pod) && identity::is_mounted(round.set, pod) {
            return Ok(false);
        }
        let mut right = (**pod).clone();
        let ordinal = identity::ordinal(pod);
        identity::identify(round.set, ordinal, &mut right);
        identity::mount(round.set, ordinal, &mut right);
        self.create_claims(round.set, ordinal).await?;
        let updated = self.writes(&round.set.key()).update(&right).await;
        self.event(round.set, "update", pod.name(), updated.as_ref().err());
        updated.map(|_| false)
    }

    async fn create(&self, round: &Round<'_>, pod: &Pod) -> Result<(), Error> {
        self.create_claims(round.set, identity::ordinal(pod)).await?;
        self.writes(&round.set.key()).create(pod).await?;
        Ok(())
    }

    async fn condemn(&self, round: &Round<'_>, pod: &Arc<Pod>) -> Result<bool, Error> {
        if pod.is_deleting() {
            return Ok(round.ordered());
        }
        let first = round.first_unavailable().is_some_and(|p| p.name() == pod.name());
        if round.ordered() && !first && (!ready(pod) || !round.available(pod)) {
            return Ok(true);
        }
        self.delete(round, pod).await?;
        Ok(true)
    }

    async fn delete(&self, round: &Round<'_>, pod: &Pod) -> Result<(), Error> {
        let options = DeleteOptions::of(pod.uid());
        match self.writes(&round.set.key()).delete(pod, &options).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                self.event(round.set, "delete", pod.name(), Some(&error));
                Err(error)
            }
            _ => {
                self.event(round.set, "delete", pod.name(), None);
                Ok(())
            }
        }
    }
}
