//! The ReplicaSets of a Deployment: which is new, which are old, their revisions and annotations.

use std::sync::Arc;

use api::Kind;
use api::k8s::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use api::k8s::core::v1::PodTemplateSpec;
use api::metav1::ObjectMeta;
use client::Error;
use informer::{Cache, EventType};

use super::{Controller, Rollout, plan, status};
use crate::owner::controller_reference;
use crate::workload::history::template_hash;

const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const HASH_LABEL: &str = "pod-template-hash";
/// Annotations that do not travel from the Deployment to its ReplicaSets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// The ReplicaSets of one Deployment.
pub(super) struct Sets {
    /// The one of the current template, when it exists.
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// All others.
    pub(super) old: Vec<Arc<ReplicaSet>>,
}

fn without_hash(template: Option<&PodTemplateSpec>) -> PodTemplateSpec {
    let mut template = template.cloned().unwrap_or_default();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.take().filter(|l| !l.is_empty());
    meta.annotations = meta.annotations.take().filter(|a| !a.is_empty());
    meta.creation_timestamp = None;
    template
}

pub(super) fn annotation_number(set: &ReplicaSet, name: &str) -> Option<i32> {
    set.annotation(name)?.parse().ok()
}

pub(super) fn desired_annotation(set: &ReplicaSet) -> Option<i32> {
    annotation_number(set, DESIRED)
}

pub(super) fn max_annotation(set: &ReplicaSet) -> Option<i32> {
    annotation_number(set, MAX)
}

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    set.annotation(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

impl Sets {
    pub(super) fn new(deployment: &Deployment, mut claimed: Vec<Arc<ReplicaSet>>) -> Self {
        let want = without_hash(deployment.spec.as_ref().map(|s| &s.template));
        claimed.sort_by_key(|s| (s.metadata.creation_timestamp.as_ref().map(|t| t.0), s.name().to_owned()));
        // The oldest of equals, so that a race that made two ends the same way everywhere.
        let at = claimed.iter().position(|s| without_hash(s.spec.as_ref().and_then(|s| s.template.as_ref())) == want);
        let new = at.map(|at| claimed.remove(at));
        Self { new, old: claimed }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn latest_old(&self) -> Option<Arc<ReplicaSet>> {
        self.old.iter().max_by_key(|s| s.metadata.creation_timestamp.as_ref().map(|t| t.0)).cloned()
    }

    pub(super) fn refresh(&mut self, cache: &Cache<ReplicaSet>) {
        for set in self.old.iter_mut().chain(&mut self.new) {
            if let Some(fresh) = cache.get(set.namespace(), set.name()).filter(|f| f.uid() == set.uid()) {
                *set = fresh;
            }
        }
    }
}

/// Writes the size that was wanted when the set was sized; whether that changed anything.
pub(super) fn annotate_size(set: &mut ReplicaSet, deployment: &Deployment) -> bool {
    let desired = plan::replicas(deployment).to_string();
    let max = (plan::replicas(deployment) + plan::max_surge(deployment)).to_string();
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (name, value) in [(DESIRED, desired), (MAX, max)] {
        if annotations.get(name) != Some(&value) {
            annotations.insert(name.to_owned(), value);
            changed = true;
        }
    }
    changed
}

/// Copies the Deployment's annotations and the revision; whether that changed anything.
fn annotate_revision(set: &mut ReplicaSet, deployment: &Deployment, new_revision: i64, exists: bool) -> bool {
    let mut changed = false;
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&name.as_str()) && annotations.get(name) != Some(value) {
            annotations.insert(name.clone(), value.clone());
            changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = old.as_deref().and_then(|r| r.parse::<i64>().ok()).unwrap_or(0);
    if old_number < new_revision {
        annotations.insert(REVISION.to_owned(), new_revision.to_string());
        changed = true;
        if exists && let Some(old) = old {
            let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            let mut entries: Vec<&str> = history.split(',').filter(|e| !e.is_empty()).collect();
            entries.push(&old);
            *history = entries.join(",");
        }
    }
    changed
}

/// Upstream's limit of a label value bounds the names of pods' owners.
fn set_name(deployment: &str, hash: &str) -> String {
    let room = 253 - hash.len() - 1;
    format!("{}-{hash}", &deployment[..deployment.len().min(room)])
}

fn new_set(rollout: &Rollout, hash: &str) -> ReplicaSet {
    let deployment = &rollout.deployment;
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(set_name(deployment.name(), hash)),
            namespace: Some(deployment.namespace().to_owned()),
            owner_references: Some(vec![controller_reference(deployment)]),
            labels: template.metadata.as_ref().and_then(|m| m.labels.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(plan::new_replicas(rollout, 0)),
            min_ready_seconds: plan::min_ready_seconds(deployment),
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

impl Controller {
    /// Brings revisions up to date and, when asked, makes the new ReplicaSet if it is missing.
    pub(super) async fn sync_revision(&self, rollout: &mut Rollout, create: bool) -> Result<(), Error> {
        let highest_old = rollout.sets.old.iter().map(|s| revision(s)).max().unwrap_or(0);
        let new_revision = highest_old + 1;
        if let Some(set) = rollout.sets.new.clone() {
            return self.sync_existing(rollout, &set, new_revision).await;
        }
        if create { self.create_new(rollout, new_revision).await } else { Ok(()) }
    }

    async fn sync_existing(
        &self,
        rollout: &mut Rollout,
        set: &Arc<ReplicaSet>,
        new_revision: i64,
    ) -> Result<(), Error> {
        let mut changed = (**set).clone();
        let annotated = annotate_revision(&mut changed, &rollout.deployment, new_revision, true);
        let min_ready = plan::min_ready_seconds(&rollout.deployment);
        let spec = changed.spec.get_or_insert_default();
        let same_wait = spec.min_ready_seconds.unwrap_or(0) == min_ready.unwrap_or(0);
        if annotated || !same_wait {
            spec.min_ready_seconds = min_ready;
            // The next sync sees the change through the cache and goes on from there.
            rollout.sets.new = Some(Arc::new(self.writes(&rollout.deployment.key()).update(&changed).await?));
        }
        let text = rollout.sets.new.as_ref().and_then(|s| s.annotation(REVISION)).unwrap_or_default().to_owned();
        let found = format!("Found new replica set {:?}", set.name());
        let status = status::with_new_set(&rollout.deployment, "FoundNewReplicaSet", &found, false, rollout.now);
        self.write_revision(rollout, &text, status).await
    }

    async fn write_revision(
        &self,
        rollout: &mut Rollout,
        revision: &str,
        status: Option<api::k8s::apps::v1::DeploymentStatus>,
    ) -> Result<(), Error> {
        let outdated = !revision.is_empty() && rollout.deployment.annotation(REVISION) != Some(revision);
        if outdated {
            let mut changed = rollout.deployment.clone();
            changed.metadata.annotations.get_or_insert_default().insert(REVISION.to_owned(), revision.to_owned());
            changed.status = status.or(changed.status);
            // The status endpoint takes annotations as well, so that one write does both.
            let mut written: Deployment = self.writes(&changed.key()).update_status(&changed).await?;
            written.metadata.managed_fields = None;
            rollout.deployment = written;
        } else if let Some(status) = status {
            rollout.deployment = self.write(&rollout.deployment, status).await?;
        }
        Ok(())
    }

    async fn create_new(&self, rollout: &mut Rollout, new_revision: i64) -> Result<(), Error> {
        let template = rollout.deployment.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
        let collisions = rollout.deployment.status.as_ref().and_then(|s| s.collision_count);
        let mut set = new_set(rollout, &template_hash(&template, collisions));
        annotate_revision(&mut set, &rollout.deployment, new_revision, false);
        annotate_size(&mut set, &rollout.deployment);
        let replicas = plan::spec_replicas(&set);
        let (set, existed) = match self.writes(&rollout.deployment.key()).create(&set).await {
            Ok(made) => (made, false),
            Err(error) if error.is_already_exists() => (self.existing(rollout, &set, error).await?, true),
            Err(error) => return Err(self.creation_failed(rollout, &set, error).await),
        };
        let name = set.name().to_owned();
        rollout.sets.new = Some(Arc::new(set));
        let mut status = None;
        if !existed {
            if replicas > 0 {
                let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                self.context.recorder.event(&rollout.deployment, EventType::Normal, "ScalingReplicaSet", message);
            }
            let message = format!("Created new replica set {name:?}");
            status = status::with_new_set(&rollout.deployment, "NewReplicaSetCreated", &message, true, rollout.now);
        }
        self.write_revision(rollout, &new_revision.to_string(), status).await
    }

    /// The name is taken: by ourselves a moment ago, or by a collision of hashes, which is counted.
    async fn existing(&self, rollout: &Rollout, set: &ReplicaSet, error: Error) -> Result<ReplicaSet, Error> {
        let found: ReplicaSet = self.context.client.get(set.namespace(), set.name()).await?;
        let ours = found.controller_ref().is_some_and(|r| r.uid == rollout.deployment.uid());
        let template = |s: &ReplicaSet| without_hash(s.spec.as_ref().and_then(|s| s.template.as_ref()));
        if ours && template(&found) == template(set) {
            self.own.note(&rollout.deployment.key(), &found);
            return Ok(found);
        }
        let mut status = rollout.deployment.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        self.write(&rollout.deployment, status).await?;
        Err(error)
    }

    async fn creation_failed(&self, rollout: &Rollout, set: &ReplicaSet, error: Error) -> Error {
        if super::namespace_terminating(&error) {
            return error;
        }
        let message = format!("Failed to create new replica set {:?}: {}", set.name(), error.chain());
        let status = status::with_creation_failure(&rollout.deployment, &message, rollout.now);
        if let Some(status) = status
            && let Err(error) = self.write(&rollout.deployment, status).await
        {
            tracing::debug!(error = error.chain(), "cannot write the failure condition");
        }
        self.context.recorder.event(&rollout.deployment, EventType::Warning, "ReplicaSetCreateError", message);
        error
    }
}
