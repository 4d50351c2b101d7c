//! PodDisruptionBudget: how many of the pods it covers may be evicted now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use api::k8s::core::v1::{Pod, ReplicationController};
use api::k8s::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use api::metav1::{Condition, OwnerReference, Time};
use api::prelude::IntOrString;
use client::{Error, PatchKind, Resource};
use informer::{Delta, EventType, Informer, Queue, run_workers};
use rt::HashMap;
use rt::time::Timestamp;
use serde_json::json;

use crate::discovery::discover;
use crate::frame::Context;
use crate::workload::share::resolve;
use crate::{owner, pods};

/// How long an eviction may take until the pod counts again.
const EVICTION_TIME: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Budget(String),
    /// A pod that was told of a disruption that may never come.
    Stale(String),
}

struct Controller {
    context: Context,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    stateful: Informer<StatefulSet>,
    replications: Informer<ReplicationController>,
    queue: Arc<Queue<Key>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let queue = Arc::new(Queue::new());
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller {
        context,
        budgets: factory.informer(),
        pods: factory.informer(),
        sets: factory.informer(),
        deployments: factory.informer(),
        stateful: factory.informer(),
        replications: factory.informer(),
        queue: queue.clone(),
    });
    let handed = queue.clone();
    controller.budgets.add_handler(move |delta| handed.add(Key::Budget(delta.object().key())));
    let events = Arc::downgrade(&controller);
    controller.pods.add_handler(move |delta| {
        if let Some(controller) = events.upgrade() {
            controller.pod_changed(delta);
        }
    });
    controller.budgets.synced().await;
    controller.pods.synced().await;
    controller.sets.synced().await;
    controller.deployments.synced().await;
    controller.stateful.synced().await;
    controller.replications.synced().await;
    run_workers("disruption", queue, workers, shutdown, move |key: Key| {
        let controller = controller.clone();
        async move {
            match &key {
                Key::Budget(key) => controller.sync(key).await,
                Key::Stale(key) => controller.sync_stale(key).await,
            }
        }
    })
    .await;
}

fn disrupted(pod: &Pod) -> Option<Timestamp> {
    let told = pods::condition(pod, "DisruptionTarget").filter(|c| c.status == "True")?;
    told.last_transition_time.as_ref().map(|t| t.0)
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    selector.is_some_and(|s| owner::selector_of(s).matches_map(pod.labels()))
}

impl Controller {
    fn pod_changed(&self, delta: &Delta<Pod>) {
        let pod = delta.object();
        let old = if let Delta::Updated { old, .. } = delta { Some(old) } else { None };
        for budget in self.budgets.cache().in_namespace(pod.namespace()) {
            if covers(&budget, pod) || old.is_some_and(|old| covers(&budget, old)) {
                self.queue.add(Key::Budget(budget.key()));
            }
        }
        if let Some(at) = disrupted(pod).filter(|_| !pod.is_deleting() && !pods::is_terminal(pod))
            && !matches!(delta, Delta::Deleted(_))
        {
            let left = EVICTION_TIME.saturating_sub(rt::time::since(at));
            self.queue.add_after(Key::Stale(pod.key()), left + Duration::from_millis(10));
        }
    }

    async fn sync_stale(&self, key: &str) -> Result<(), Error> {
        let Some(pod) = self.pods.cache().get_key(key) else { return Ok(()) };
        let over = disrupted(&pod).is_some_and(|at| rt::time::since(at) >= EVICTION_TIME);
        if !over || pod.is_deleting() || pods::is_terminal(&pod) {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"uid": pod.uid()},
            "status": {"conditions": [{
                "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
                "lastTransitionTime": Time(rt::time::now()),
            }]},
        });
        match self.context.client.patch_status::<Pod>(pod.namespace(), pod.name(), &PatchKind::Strategic, &patch).await
        {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(budget) = self.budgets.cache().get_key(key) else { return Ok(()) };
        if budget.is_deleting() {
            return Ok(());
        }
        let mut covered = self.pods.cache().in_namespace(budget.namespace());
        covered.retain(|pod| covers(&budget, pod));
        if covered.is_empty() {
            self.context.recorder.event(&*budget, EventType::Normal, "NoPods", "No matching pods found");
        }
        let now = rt::time::now();
        match self.expected(&budget, &covered).await {
            Ok((expected, desired)) => {
                let status = self.status(&budget, &covered, expected, desired, now);
                self.write(&budget, status).await
            }
            Err(error) => {
                let message = format!("Failed to calculate the number of expected pods: {}", error.chain());
                self.context.recorder.event(&*budget, EventType::Warning, "CalculateExpectedPodCountFailed", message);
                let mut status = budget.status.clone().unwrap_or_default();
                status.disruptions_allowed = Some(0);
                status.observed_generation = budget.metadata.generation;
                set_condition(&mut status, &budget, ("False", "SyncFailed"), &error.chain(), now);
                self.write(&budget, status).await?;
                Err(error)
            }
        }
    }

    /// How many pods there should be, and how many of them must be healthy.
    async fn expected(&self, budget: &PodDisruptionBudget, covered: &[Arc<Pod>]) -> Result<(i32, i32), Error> {
        let spec = budget.spec.clone().unwrap_or_default();
        if let Some(limit) = &spec.max_unavailable {
            let expected = self.scale(budget, covered).await?;
            return Ok((expected, (expected - resolve(Some(limit), expected, true)).max(0)));
        }
        match &spec.min_available {
            Some(IntOrString::Int(count)) => Ok((i32::try_from(covered.len()).unwrap_or(i32::MAX), *count)),
            Some(share) => {
                let expected = self.scale(budget, covered).await?;
                Ok((expected, resolve(Some(share), expected, true)))
            }
            None => Ok((0, 0)),
        }
    }

    /// The wanted sizes of the covered pods' controllers together.
    async fn scale(&self, budget: &PodDisruptionBudget, covered: &[Arc<Pod>]) -> Result<i32, Error> {
        let mut sizes: HashMap<String, i32> = HashMap::default();
        let mut unmanaged = Vec::new();
        for pod in covered {
            let Some(reference) = pod.controller_ref() else {
                unmanaged.push(pod.name());
                continue;
            };
            if sizes.contains_key(&reference.uid) {
                continue;
            }
            let (uid, size) = self.size_of(pod.namespace(), reference).await?;
            sizes.insert(reference.uid.clone(), 0);
            sizes.insert(uid, size);
        }
        if !unmanaged.is_empty() {
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {:?}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.",
                budget
                    .spec
                    .as_ref()
                    .and_then(|s| s.selector.as_ref())
                    .and_then(|s| s.match_labels.clone())
                    .unwrap_or_default(),
            );
            self.context.recorder.event(budget, EventType::Warning, "UnmanagedPods", message);
        }
        Ok(sizes.into_values().sum())
    }

    async fn size_of(&self, namespace: &str, reference: &OwnerReference) -> Result<(String, i32), Error> {
        let name = reference.name.as_str();
        let same = |uid: &str| uid == reference.uid;
        let found = match reference.kind.as_str() {
            "ReplicaSet" => self.sets.cache().get(namespace, name).filter(|s| same(s.uid())).map(|set| {
                let deployment = set
                    .controller_ref()
                    .filter(|r| r.kind == "Deployment")
                    .and_then(|r| self.deployments.cache().get(namespace, &r.name).filter(|d| d.uid() == r.uid));
                match deployment {
                    Some(d) => (d.uid().to_owned(), d.spec.as_ref().and_then(|s| s.replicas)),
                    None => (set.uid().to_owned(), set.spec.as_ref().and_then(|s| s.replicas)),
                }
            }),
            "StatefulSet" => {
                let set = self.stateful.cache().get(namespace, name).filter(|s| same(s.uid()));
                set.map(|s| (s.uid().to_owned(), s.spec.as_ref().and_then(|s| s.replicas)))
            }
            "ReplicationController" => {
                let found = self.replications.cache().get(namespace, name).filter(|s| same(s.uid()));
                found.map(|s| (s.uid().to_owned(), s.spec.as_ref().and_then(|s| s.replicas)))
            }
            _ => None,
        };
        match found {
            Some((uid, size)) => Ok((uid, size.unwrap_or(1))),
            None => self.size_by_scale(namespace, reference).await,
        }
    }

    /// Any other controller is asked for its scale.
    async fn size_by_scale(&self, namespace: &str, reference: &OwnerReference) -> Result<(String, i32), Error> {
        let (served, failures) = discover(&self.context.client).await?;
        let is_it = |r: &&crate::discovery::Served| {
            let version = &reference.api_version;
            r.kind == reference.kind && version.rsplit_once('/').map_or("", |(group, _)| group) == &*r.gvr.group
        };
        let resource = served.iter().find(is_it).ok_or_else(|| {
            let what = format!("{} {}", reference.api_version, reference.kind);
            if failures.is_empty() {
                return Error::Request(format!("no resource serves {what}"));
            }
            Error::Request(format!(
                "no resource is known to serve {what}; not all was discovered: {}",
                failures.join("; ")
            ))
        })?;
        let path = format!("{}/{}/scale", resource.gvr.path(Some(namespace)), reference.name);
        let bytes = match self.context.client.call(http::Method::GET, &path, None, bytes::Bytes::new()).await {
            Err(error) if error.is_not_found() => {
                let of = Resource { gvr: &resource.gvr, namespace: Some(namespace) };
                return match self.context.client.get_object(&of, &reference.name).await {
                    Ok(_) => Err(Error::Request(format!(
                        "{} does not implement the scale subresource",
                        resource.gvr.group_resource()
                    ))),
                    // The controller is gone, and its pods will be.
                    Err(error) if error.is_not_found() => Ok((reference.uid.clone(), 0)),
                    Err(error) => Err(error),
                };
            }
            other => other?,
        };
        let scale: serde_json::Value = serde_json::from_slice(&bytes).map_err(Error::Decode)?;
        let size = scale["spec"]["replicas"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0);
        Ok((reference.uid.clone(), size))
    }

    fn status(
        &self,
        budget: &PodDisruptionBudget,
        covered: &[Arc<Pod>],
        expected: i32,
        desired: i32,
        now: Timestamp,
    ) -> PodDisruptionBudgetStatus {
        let mut status = budget.status.clone().unwrap_or_default();
        let mut going: BTreeMap<String, Time> = BTreeMap::new();
        for (name, at) in status.disrupted_pods.iter().flatten() {
            let Some(pod) = covered.iter().find(|p| p.name() == name).filter(|p| !p.is_deleting()) else { continue };
            let left = EVICTION_TIME.saturating_sub(rt::time::between(at.0, now));
            if left.is_zero() {
                let message = format!(
                    "Pod was expected by PDB {}/{} to be deleted but it wasn't",
                    budget.namespace(),
                    budget.name()
                );
                self.context.recorder.event(&**pod, EventType::Warning, "NotDeleted", message);
            } else {
                self.queue.add_after(Key::Budget(budget.key()), left);
                going.insert(name.clone(), at.clone());
            }
        }
        let healthy = covered.iter().filter(|p| !p.is_deleting() && !going.contains_key(p.name()) && pods::is_ready(p));
        let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
        let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
        status.current_healthy = Some(healthy);
        status.desired_healthy = Some(desired);
        status.expected_pods = Some(expected);
        status.disruptions_allowed = Some(allowed);
        status.disrupted_pods = Some(going).filter(|g| !g.is_empty());
        status.observed_generation = budget.metadata.generation;
        let answer = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
        set_condition(&mut status, budget, answer, "", now);
        status
    }

    async fn write(&self, budget: &PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> Result<(), Error> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let changed = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        match self.context.client.update_status(&changed).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    budget: &PodDisruptionBudget,
    (value, reason): (&str, &str),
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().position(|c| c.type_ == "DisruptionAllowed");
    let since = old.map(|at| &conditions[at]).filter(|c| c.status == value).map(|c| c.last_transition_time.clone());
    let new = Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: budget.metadata.generation,
    };
    match old {
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
}
