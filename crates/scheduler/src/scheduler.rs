//! The scheduler: queue, decision, binding.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::{Node, Pod};
use api::k8s::scheduling::v1alpha2::PodGroup;
use client::Client;
use informer::{Factory, Informer, Recorder};
use parking_lot::Mutex;
use rt::sync::Semaphore;
use rt::time::Instant;
use rt::{HashMap, Shutdown};

use crate::cache::Cache;
use crate::config::{Configuration, InvalidConfiguration};
use crate::cycle::{BY_EXTENDER, Engine, Undecided};
use crate::events::ClusterEvent;
use crate::extender::Extender;
use crate::fit_error::Failure;
use crate::framework::{Permit, Points, Status};
use crate::groups::Groups;
use crate::handle::Handle;
use crate::handlers;
use crate::metrics;
use crate::nominator::Nominator;
use crate::pod_info::PodInfo;
use crate::profile::Profile;
use crate::queue::{Backoff, Queue, Queued};
use crate::waiting::{Wait, Waiting};

/// How long, and how often, the scheduler decides before other tasks have their turn.
const TURN: Duration = Duration::from_micros(500);
const MAX_TURN: u32 = 32;
/// Bindings (and writes of failures) under way at once.
const MAX_IN_FLIGHT: usize = 256;

/// How to schedule.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Profiles, extenders and times of waiting; upstream's defaults when default.
    pub configuration: Configuration,
    /// `--feature-gates`.
    pub gates: features::Gates,
    /// Set while caches are being filled, for health checks.
    pub syncing: Arc<AtomicBool>,
}

/// What the tasks share.
pub(crate) struct Scheduler {
    pub(crate) client: Client,
    pub(crate) queue: Arc<Queue>,
    pub(crate) nominator: Arc<Nominator>,
    pub(crate) cache: Mutex<Cache>,
    pub(crate) pods: Informer<Pod>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) groups: Arc<Groups>,
    /// None when there are no groups.
    pub(crate) pod_groups: Option<Informer<PodGroup>>,
    profiles: HashMap<String, Arc<Active>>,
    extenders: Vec<Arc<Extender>>,
    pub(crate) permits: Arc<Semaphore>,
}

/// A profile and the recorder of its events.
pub(crate) struct Active {
    pub(crate) profile: Profile,
    pub(crate) recorder: Recorder,
}

/// Schedules pods until told to stop. A configuration that cannot be used is said in the log, and nothing is scheduled;
/// see [`start`].
pub async fn run(options: Options, client: Client, factory: Factory, shutdown: Shutdown) {
    match start(options, client, factory, &shutdown) {
        Ok(scheduling) => scheduling.await,
        Err(error) => tracing::error!(error = error.to_string(), "the scheduler's configuration is invalid"),
    }
}

/// Makes the scheduler; the future schedules until told to stop.
///
/// # Errors
/// The configuration names what is not there, or an extender that cannot be called.
pub fn start(
    options: Options,
    client: Client,
    factory: Factory,
    shutdown: &Shutdown,
) -> Result<impl Future<Output = ()> + use<>, InvalidConfiguration> {
    let Options { mut configuration, gates, syncing } = options;
    configuration.ignore_extenders_resources();
    let queue =
        Arc::new(Queue::new(Backoff { initial: configuration.initial_backoff, max: configuration.max_backoff }));
    let nominator = Arc::new(Nominator::default());
    let (pods, nodes) = (factory.informer::<Pod>(), factory.informer::<Node>());
    let (groups, waiting) = (Arc::new(Groups::new(&gates)), Arc::new(Waiting::default()));
    let mut profiles = HashMap::default();
    for profile in &configuration.profiles {
        let recorder = Recorder::start(client.clone(), &profile.scheduler_name, None, shutdown.clone());
        let handle = Handle {
            client: client.clone(),
            factory: factory.clone(),
            recorder: recorder.clone(),
            profile: profile.scheduler_name.as_str().into(),
            gates: gates.clone(),
            groups: groups.clone(),
            waiting: waiting.clone(),
            pods: pods.clone(),
            queue: queue.clone(),
            nominator: nominator.clone(),
        };
        let profile = crate::registry::build(profile, &handle)?;
        profiles.insert(profile.name.clone(), Arc::new(Active { profile, recorder }));
    }
    let mut extenders = Vec::new();
    for extender in &configuration.extenders {
        extenders.push(Arc::new(Extender::new(extender).map_err(|e| InvalidConfiguration(e.to_string()))?));
    }
    let engine = Engine::new(nominator.clone(), extenders.clone(), configuration.percentage);
    let scheduler = Arc::new(Scheduler {
        client,
        queue,
        nominator,
        cache: Mutex::default(),
        pods: pods.clone(),
        waiting,
        pod_groups: groups.is_on().then(|| factory.informer()),
        groups,
        profiles,
        extenders,
        permits: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
    });
    handlers::attach(&scheduler, &factory, &pods, &nodes);
    let shutdown = shutdown.clone();
    Ok(async move {
        syncing.store(true, Ordering::Release);
        factory.start(&shutdown);
        factory.synced().await;
        syncing.store(false, Ordering::Release);
        shutdown.run(async move { scheduler.work(engine).await }).await;
    })
}

/// What becomes of a pod after its cycle.
pub(crate) enum Outcome {
    /// `wait` is what Permit wants, and the plugin that does.
    Bind {
        node: Arc<str>,
        state: crate::framework::CycleState,
        wait: Option<(usize, std::time::Duration)>,
    },
    Fail(Undecided),
}

impl Scheduler {
    /// The profile that schedules a pod; none when the pod is not ours.
    pub(crate) fn profile_of(&self, pod: &Pod) -> Option<&Arc<Active>> {
        let name = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler");
        self.profiles.get(name)
    }

    async fn work(self: Arc<Self>, mut engine: Engine) {
        let (mut turn, mut decisions) = (Instant::now(), 0);
        loop {
            let Ok(permit) = self.permits.clone().acquire_owned().await else { return };
            let pod = match self.queue.try_pop() {
                Some(pod) => pod,
                None => self.idle().await,
            };
            let Some(active) = self.profile_of(&pod.info.pod).cloned() else {
                self.queue.done(&pod.info.uid);
                continue;
            };
            if let Some(group) = self.groups.of(&pod.info.pod) {
                self.group_cycle(&mut engine, &group, pod, permit).await;
                rt::yield_now().await;
                (turn, decisions) = (Instant::now(), 0);
                continue;
            }
            let begun = Instant::now();
            let outcome = self.cycle(&mut engine, &active, &pod).await;
            metrics::ALGORITHM_SECONDS.with(&[]).observe(begun.elapsed().as_secs_f64());
            match outcome {
                Outcome::Bind { node, state, wait } => {
                    let this = self.clone();
                    let wait = wait.map(|(at, longest)| (at, self.waiting.begin(&pod.info.uid, longest)));
                    rt::spawn("bind", async move {
                        this.bind(&active, pod, &node, state, wait, permit, begun).await;
                    });
                }
                Outcome::Fail(undecided) => {
                    if let Some(report) = self.give_back(&active, pod, undecided, begun) {
                        rt::spawn("report unschedulable", async move {
                            report.await;
                            drop(permit);
                        });
                    }
                }
            }
            // Decisions are long for a task that never waits: let the others run. Not after each one, or the pods would queue
            // behind all requests of a busy server once per decision.
            decisions += 1;
            if decisions == MAX_TURN || turn.elapsed() >= TURN {
                rt::yield_now().await;
                (turn, decisions) = (Instant::now(), 0);
            }
        }
    }

    /// Nothing is to be done: says so in the metrics and waits for the next pod.
    async fn idle(&self) -> Queued {
        let (active, backoff, unschedulable, gated) = self.queue.counts();
        let queues = [("active", active), ("backoff", backoff), ("unschedulable", unschedulable), ("gated", gated)];
        for (queue, count) in queues {
            metrics::PENDING.with(&[queue]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let (nodes, pods) = self.cache.lock().counts();
        for (what, count) in [("nodes", nodes), ("pods", pods)] {
            metrics::CACHE_SIZE.with(&[what]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.queue.pop().await
    }

    /// One cycle: decide, count the pod on its node, reserve, ask for permission.
    pub(crate) async fn cycle(&self, engine: &mut Engine, active: &Active, pod: &Queued) -> Outcome {
        self.cache.lock().refresh(&mut engine.snapshot);
        let decision = match engine.decide(&active.profile, &pod.info).await {
            Ok(decision) => decision,
            Err(undecided) => return Outcome::Fail(undecided),
        };
        let (place, mut state) = (decision.place, decision.state);
        let node = engine.snapshot.nodes()[place].clone();
        self.cache.lock().assume(pod.info.clone(), &node.name);
        self.groups.assumed(&pod.info.pod);
        self.nominator.remove(&pod.info.uid);
        let profile = &active.profile;
        if let Err(status) = profile.reserve(&mut state, &pod.info, &node, &engine.snapshot) {
            return Outcome::Fail(self.take_back(profile, None, &state, pod, &node.name, status));
        }
        let mut wait: Option<(usize, std::time::Duration)> = None;
        for (at, weighted) in profile.at(Points::PERMIT) {
            match weighted.plugin.permit(&state, &pod.info, &node.name) {
                Permit::Allow => {}
                Permit::Wait(longest) => {
                    if wait.is_none_or(|(_, known)| known < longest) {
                        wait = Some((at, longest));
                    }
                }
                Permit::Reject(status) => {
                    return Outcome::Fail(self.take_back(profile, Some(at), &state, pod, &node.name, status));
                }
            }
        }
        Outcome::Bind { node: node.name.clone(), state, wait }
    }

    /// Undoes a decision, in memory. `by` is the plugin that rejected the pod, if one did.
    pub(crate) fn take_back(
        &self,
        profile: &Profile,
        by: Option<usize>,
        state: &crate::framework::CycleState,
        pod: &Queued,
        node: &str,
        status: Status,
    ) -> Undecided {
        profile.unreserve(state, &pod.info, node);
        self.groups.taken_back(&pod.info.pod);
        let freed = self.cache.lock().forget(&pod.info.uid);
        if let Some(freed) = freed {
            self.event(ClusterEvent::pod_deleted(freed));
        }
        let failure = match by {
            Some(at) if status.code != crate::framework::Code::Error => {
                Failure::Fit(Box::new(profile.single_rejection(at, status)))
            }
            _ => Failure::Error(status.message()),
        };
        Undecided { failure, nominate: Some(String::new()) }
    }

    #[allow(clippy::too_many_arguments, reason = "what a cycle hands over")]
    pub(crate) async fn bind(
        self: &Arc<Self>,
        active: &Arc<Active>,
        pod: Queued,
        node: &str,
        state: crate::framework::CycleState,
        wait: Option<(usize, Wait)>,
        permit: impl Sized,
        begun: Instant,
    ) {
        let profile = &active.profile;
        let waits =
            wait.is_some() || profile.at(Points::PRE_BIND).any(|(at, w)| w.plugin.waits_before_binding(&state, at));
        let permit = if waits {
            // Others go on meanwhile; and who looks at the pod sees where it is going.
            drop(permit);
            self.write_status(&pod.info, None, Some(node)).await;
            None
        } else {
            Some(permit)
        };
        let done = self.bind_steps(profile, &pod, node, &state, wait).await;
        let (result, rejected) = match done {
            Ok(()) => ("scheduled", None),
            Err(rejected) => ("error", Some(rejected)),
        };
        if let Some((by, status)) = rejected {
            let undecided = self.take_back(profile, by, &state, &pod, node, status);
            if let Some(report) = self.give_back(active, pod, undecided, begun) {
                report.await;
            }
            drop(permit);
            return;
        }
        drop(permit);
        for (_, weighted) in profile.at(Points::POST_BIND) {
            weighted.plugin.post_bind(&pod.info, node);
        }
        let message = format!("Successfully assigned {} to {node}", pod.info.key);
        active.recorder.event(&*pod.info.pod, informer::EventType::Normal, "Scheduled", message);
        self.queue.done(&pod.info.uid);
        metrics::ATTEMPTS.with(&[&profile.name, result]).add(1);
        metrics::ATTEMPT_SECONDS.with(&[&profile.name, result]).observe(begun.elapsed().as_secs_f64());
        metrics::POD_ATTEMPTS.with(&[]).observe(f64::from(pod.attempts));
        let attempts = if pod.attempts >= 15 { "15+".to_owned() } else { pod.attempts.to_string() };
        metrics::POD_SECONDS.with(&[&attempts]).observe(pod.arrived.elapsed().as_secs_f64());
    }

    /// Waits for permission, prepares, binds.
    async fn bind_steps(
        &self,
        profile: &Profile,
        pod: &Queued,
        node: &str,
        state: &crate::framework::CycleState,
        wait: Option<(usize, Wait)>,
    ) -> Result<(), (Option<usize>, Status)> {
        if let Some((at, wait)) = wait {
            let permitted = self.waiting.wait(&pod.info.uid, wait).await;
            permitted.map_err(|why| (Some(at), Status::unschedulable(why)))?;
        }
        for (at, weighted) in profile.at(Points::PRE_BIND) {
            if let Some(status) = weighted.plugin.pre_bind(state, &pod.info, node, at).await {
                let name = weighted.plugin.name();
                let text = format!("running PreBind plugin \"{name}\": {}", status.message());
                return Err((None, Status::error(text)));
            }
        }
        for extender in self.extenders.iter().filter(|e| e.binds() && e.is_interested(&pod.info)) {
            match extender.bind(&pod.info, node).await {
                Ok(()) => return Ok(()),
                Err(error) if extender.ignorable() => {
                    tracing::warn!(extender = extender.name(), error, "extender failed and is ignorable");
                }
                Err(error) => return Err((None, Status::error(error))),
            }
        }
        let mut last = Status::error("no plugin binds");
        for (_, weighted) in profile.at(Points::BIND) {
            match weighted.plugin.bind(&self.client, &pod.info, node).await {
                None => return Ok(()),
                Some(status) => {
                    let name = weighted.plugin.name();
                    last = Status::error(format!("running Bind plugin \"{name}\": {}", status.message()));
                }
            }
        }
        Err((None, last))
    }

    /// Whether an event may help a pod that these plugins rejected.
    pub(crate) fn helps(&self, pod: &PodInfo, rejected_by: u64, event: &ClusterEvent) -> bool {
        if rejected_by & BY_EXTENDER != 0 {
            return true;
        }
        let Some(active) = self.profile_of(&pod.pod) else { return false };
        let plugins = active.profile.plugins.iter().enumerate();
        let mut rejecting = plugins.filter(|(at, _)| rejected_by & (1 << at) != 0);
        rejecting.any(|(_, w)| w.plugin.wakes_on() & event.kinds != 0 && w.plugin.hint(pod, event))
    }

    /// Tells the queue of an event.
    pub(crate) fn event(&self, event: ClusterEvent) {
        self.queue.event(event, &|pod, by, event| self.helps(pod, by, event));
    }

    /// The newest state of a pod that is in the queue, if it is still to be scheduled.
    pub(crate) fn current(&self, info: &PodInfo) -> Option<Arc<Pod>> {
        let found = self.pods.cache().get_key(&info.key)?;
        let waits = found.uid() == info.uid && crate::pod_info::node_name(&found).is_empty() && !found.is_deleting();
        waits.then_some(found)
    }
}
