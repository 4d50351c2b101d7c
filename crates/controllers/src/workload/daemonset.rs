//! DaemonSet: one pod on every node that fits.

mod nodes;
mod rollout;

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use api::k8s::core::v1::{Node, Pod};
use client::Error;
use futures::future::join_all;
use informer::{Delta, EventType, Informer, OwnWrites, Queue, run_workers};
use meta::selector::LabelSelector;
use parking_lot::Mutex;
use rt::HashMap;
use rt::time::Instant;

use crate::frame::Context;
use crate::workload::follow;
use crate::workload::history::{self, Naming, REVISION_LABEL};
use crate::workload::pod_control::{PodControl, namespace_terminating, pod_from_template};
use crate::workload::writes::Writes;
use crate::{owner, pods};

use self::nodes::{View, should_run};

/// Most pods that are made or deleted in one pass.
const BURST: usize = 250;
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(15 * 60);

struct Controller {
    context: Context,
    sets: Informer<DaemonSet>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    revisions: Informer<ControllerRevision>,
    queue: Arc<Queue<String>>,
    own: OwnWrites,
    /// When a failed pod of a set on a node was last replaced, and how long the next has to wait.
    failed: Mutex<HashMap<String, (Instant, Duration)>>,
}

/// What is to be done in one pass.
#[derive(Default)]
struct Plan {
    create_on: Vec<String>,
    delete: Vec<Arc<Pod>>,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let revisions = factory.informer::<ControllerRevision>();
    let pods = factory.informer::<Pod>();
    let sets = factory.informer::<DaemonSet>();
    revisions.add_index(follow::BY_CONTROLLER, follow::by_controller);
    let queue = Arc::new(Queue::new());
    let woken = queue.clone();
    let own = OwnWrites::new(Some("daemonset_controller"), move |key| woken.add(key)).over(&sets).over(&pods);
    follow::follow(&sets, &pods, &queue, |set| Some(selector(set)));
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers);
    let controller = Arc::new(Controller {
        context,
        sets,
        pods,
        nodes: factory.informer::<Node>(),
        revisions,
        queue: queue.clone(),
        own,
        failed: Mutex::default(),
    });
    controller.watch_nodes();
    controller.sets.synced().await;
    controller.pods.synced().await;
    controller.nodes.synced().await;
    controller.revisions.synced().await;
    run_workers("daemonset", queue, workers, shutdown, move |key: String| {
        let controller = controller.clone();
        async move { controller.sync(&key).await }
    })
    .await;
}

fn spec(set: &DaemonSet) -> &DaemonSetSpec {
    static NONE: std::sync::LazyLock<DaemonSetSpec> = std::sync::LazyLock::new(DaemonSetSpec::default);
    set.spec.as_ref().unwrap_or(&NONE)
}

fn selector(set: &DaemonSet) -> LabelSelector {
    owner::selector_of(&spec(set).selector)
}

fn min_ready(set: &DaemonSet) -> i32 {
    spec(set).min_ready_seconds.unwrap_or(0)
}

impl Controller {
    fn watch_nodes(self: &Arc<Self>) {
        let events = Arc::downgrade(self);
        self.nodes.add_handler(move |delta| {
            if let Delta::Updated { old, new } = delta
                && old.labels() == new.labels()
                && nodes::taints(old) == nodes::taints(new)
            {
                return;
            }
            if let Some(controller) = events.upgrade() {
                controller.sets.cache().list().iter().for_each(|set| controller.queue.add(set.key()));
            }
        });
    }

    async fn sync(&self, key: &str) -> Result<(), Error> {
        let Some(set) = self.sets.cache().get_key(key) else {
            self.own.forget(key);
            return Ok(());
        };
        let selector = selector(&set);
        if selector.is_everything() {
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.context.recorder.event(&*set, EventType::Warning, "SelectingAll", message);
            return Ok(());
        }
        if set.is_deleting() {
            return Ok(());
        }
        if let Some(wait) = self.own.wait(key) {
            self.queue.add_after(key.to_owned(), wait);
            return Ok(());
        }
        let client = &self.context.client;
        let revisions = history::list(client, &self.revisions, &*set, &selector).await?;
        let naming =
            Naming { hash_label: REVISION_LABEL, annotations: set.metadata.annotations.clone().unwrap_or_default() };
        let mut collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
        let template = &spec(&set).template;
        let current = history::current(client, &*set, template, &revisions, &naming, &mut collisions).await?;
        let hash = current.label(REVISION_LABEL).unwrap_or_default().to_owned();
        let result = self.act(key, &set, &selector, &hash).await;
        let view = self.view(&set, &selector).await?;
        self.write_status(key, &set, &view, &hash, collisions).await?;
        result?;
        let live = |r: &ControllerRevision| {
            let label = r.label(REVISION_LABEL);
            r.name() == current.name() || view.all().any(|p| label.is_some() && p.label(REVISION_LABEL) == label)
        };
        history::truncate(client, &revisions, spec(&set).revision_history_limit.unwrap_or(10), live).await
    }

    async fn view(&self, set: &DaemonSet, selector: &LabelSelector) -> Result<View, Error> {
        let candidates = follow::candidates(set, &self.pods);
        let claimed = owner::claim_all(&self.context.client, set, candidates, selector, |_| true).await?;
        Ok(View::new(self.nodes.cache().list(), claimed))
    }

    async fn act(&self, key: &str, set: &Arc<DaemonSet>, selector: &LabelSelector, hash: &str) -> Result<(), Error> {
        let view = self.view(set, selector).await?;
        let plan = self.plan(set, &view, hash);
        self.execute(key, set, plan, hash).await?;
        let rolling = spec(set).update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete");
        // What was just done must be seen before more is: the view is from before it.
        if !rolling || self.own.wait(key).is_some() {
            return Ok(());
        }
        let plan = rollout::plan(set, &view, hash, rt::time::now());
        self.execute(key, set, plan, hash).await
    }

    fn plan(&self, set: &DaemonSet, view: &View, hash: &str) -> Plan {
        let mut plan = Plan::default();
        for node in &view.nodes {
            let (run, stay) = should_run(set, node);
            let there = view.on(node.name());
            if run && there.is_empty() {
                plan.create_on.push(node.name().to_owned());
            } else if stay {
                self.plan_node(set, node, there, (run, hash), &mut plan);
            } else {
                plan.delete.extend(there.iter().filter(|p| !p.is_deleting()).cloned());
            }
        }
        plan.delete.extend(view.stranded());
        plan
    }

    fn plan_node(&self, set: &DaemonSet, node: &Node, there: &[Arc<Pod>], of: (bool, &str), plan: &mut Plan) {
        let (run, hash) = of;
        let mut running: Vec<&Arc<Pod>> = Vec::new();
        for pod in there.iter().filter(|p| !p.is_deleting()) {
            match pods::phase(pod) {
                "Failed" if self.in_backoff(set, node.name()) => {}
                "Failed" => {
                    let message =
                        format!("Found failed daemon pod {} on node {}, will try to kill it", pod.key(), node.name());
                    self.context.recorder.event(set, EventType::Warning, "FailedDaemonPod", message);
                    plan.delete.push(pod.clone());
                }
                "Succeeded" => {
                    let message = format!(
                        "Found succeeded daemon pod {} on node {}, will try to delete it",
                        pod.key(),
                        node.name()
                    );
                    self.context.recorder.event(set, EventType::Normal, "SucceededDaemonPod", message);
                    plan.delete.push(pod.clone());
                }
                _ => running.push(pod),
            }
        }
        if !rollout::allows_surge(set) {
            plan.delete.extend(running.into_iter().skip(1).cloned());
            return;
        }
        if running.is_empty() && run {
            plan.create_on.push(node.name().to_owned());
        }
        if running.len() > 1 {
            plan.delete.extend(rollout::surplus(set, &running, hash, rt::time::now()));
        }
    }

    /// Whether a failed pod is to wait; when not, the next one waits twice as long.
    fn in_backoff(&self, set: &DaemonSet, node: &str) -> bool {
        let generation = set.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
        let key = format!("{}/{generation}/{node}", set.uid());
        let mut failed = self.failed.lock();
        if failed.len() > 10_000 {
            failed.retain(|_, (at, wait)| at.elapsed() < *wait * 2);
        }
        let now = Instant::now();
        let wait = match failed.get(&key) {
            Some((at, wait)) if now.duration_since(*at) < *wait => {
                self.queue.add_after(set.key(), *wait - now.duration_since(*at));
                return true;
            }
            Some((at, wait)) if now.duration_since(*at) < MAX_BACKOFF * 2 => (*wait * 2).min(MAX_BACKOFF),
            _ => MIN_BACKOFF,
        };
        failed.insert(key, (now, wait));
        false
    }

    async fn execute(&self, key: &str, set: &Arc<DaemonSet>, mut plan: Plan, hash: &str) -> Result<(), Error> {
        plan.create_on.truncate(BURST);
        plan.delete.truncate(BURST);
        if plan.create_on.is_empty() && plan.delete.is_empty() {
            return Ok(());
        }
        let control = PodControl { writes: self.writes(key), recorder: &self.context.recorder, owner: &**set };
        let template = nodes::template(set, hash);
        let made: Vec<Pod> = plan
            .create_on
            .iter()
            .map(|node| {
                let mut pod = pod_from_template(&**set, &template);
                nodes::bind(pod.spec.get_or_insert_default(), node);
                pod
            })
            .collect();
        let (_, error) = control.create_slow_start(&made).await;
        let results = join_all(plan.delete.iter().map(|pod| control.delete(pod))).await;
        let failed = results.into_iter().find_map(Result::err);
        failed.or(error.filter(|e| !namespace_terminating(e))).map_or(Ok(()), Err)
    }

    fn writes<'a>(&'a self, key: &'a str) -> Writes<'a> {
        Writes { context: &self.context, own: &self.own, key }
    }

    async fn write_status(
        &self,
        key: &str,
        set: &DaemonSet,
        view: &View,
        hash: &str,
        collisions: i32,
    ) -> Result<(), Error> {
        let old = set.status.clone().unwrap_or_default();
        let mut status = rollout::status(set, view, hash, rt::time::now());
        status.observed_generation = set.metadata.generation;
        status.conditions.clone_from(&old.conditions);
        status.collision_count = Some(collisions).filter(|n| *n > 0).or(old.collision_count);
        if let Some(wait) = view.next_available(min_ready(set), rt::time::now()) {
            self.queue.add_after(set.key(), wait + Duration::from_millis(100));
        }
        let some = |s: &DaemonSetStatus| DaemonSetStatus {
            number_available: Some(s.number_available.unwrap_or(0)),
            number_unavailable: Some(s.number_unavailable.unwrap_or(0)),
            updated_number_scheduled: Some(s.updated_number_scheduled.unwrap_or(0)),
            ..s.clone()
        };
        if some(&old) == some(&status) {
            return Ok(());
        }
        let changed = DaemonSet { status: Some(status), ..set.clone() };
        match self.writes(key).update_status(&changed).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}
