//! Putting it all together: sources in, workers out.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use client::Client;
use futures::StreamExt;
use informer::{Delta, EventType, Factory, Informer, Recorder, Scope};
use node_api::{ContainerEventType, ImageService, NetworkService, PodSandboxFilter, RuntimeService};
use parking_lot::{Mutex, RwLock};
use rt::sync::{Notify, Semaphore, watch};
use rt::{HashMap, HashSet, Shutdown};
use volumes::{Volumes, VolumesConfig};

use crate::admit;
use crate::config::Config;
use crate::events::Events;
use crate::k8s::core::Service;
use crate::k8s::{Kind, Node, Pod, PodExt};
use crate::node::machine::{self, Machine};
use crate::objects::Objects;
use crate::pod::labels;
use crate::probe::{Probes, Runner};
use crate::shared::{Handle, Shared};
use crate::source::file;
use crate::source::mirror::{self, Mirrors};
use crate::statuses::Statuses;
use crate::worker;

/// How long the start waits for the runtime to answer.
const RUNTIME_WAIT: Duration = Duration::from_secs(60);
const LOG_CHECK: Duration = Duration::from_secs(10);
const IMAGE_CHECK: Duration = Duration::from_secs(300);

/// Why the kubelet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or mount is missing.
    #[error("prepare the kubelet's directories")]
    Directories(#[source] volumes::Error),
    /// The runtime does not answer.
    #[error("reach the container runtime")]
    Runtime(#[source] node_api::Error),
    /// The server cannot be started.
    #[error("start the kubelet's server")]
    Server(#[source] crate::server::Error),
}

/// Runs a kubelet until `shutdown`. Without a client it runs static pods only. Pods stay when it ends, and are found
/// again when it is started anew.
///
/// # Errors
/// See [`Error`]; only what makes a start impossible ends it.
pub async fn run(
    config: Config,
    client: Option<Client>,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    network: Arc<dyn NetworkService>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let factory = client.clone().map(Factory::new);
    let sources = factory.as_ref().map(|f| Sources::new(f, &config.node_name));
    let this = Arc::new(OnceLock::<Weak<Shared>>::new());
    let shared = build(config, client, runtime, images, sources.as_ref(), this.clone(), &shutdown).await?;
    // Set once, here; the closures that hold it run later.
    let _ = this.set(Arc::downgrade(&shared));
    let shared_changes = Arc::new(watch::Sender::new(0u64));
    follow_runtime(shared.clone(), shared_changes.clone()).await?;
    crate::server::start(shared.clone(), shared_changes).await.map_err(Error::Server)?;
    if let (Some(factory), Some(sources)) = (&factory, &sources) {
        factory.start(&shutdown);
        start_node(&shared, sources);
    } else if !shared.config.pod_cidr.is_empty() {
        let cidrs: Vec<String> = shared.config.pod_cidr.split(',').map(str::to_owned).collect();
        if let Err(error) = network.set_pod_cidrs(&cidrs).await {
            tracing::warn!(error = error.chain(), "cannot set the pod CIDR");
        }
    }
    shared.events.node(&shared.config.node_name, EventType::Normal, "Starting", "Starting kubelet.");
    rt::spawn("kubelet upkeep", upkeep(shared.clone()));
    let pods = Pods { shared: shared.clone(), sources, statics: file::Pods::new() };
    shutdown.run(pods.run()).await;
    Ok(())
}

async fn build(
    config: Config,
    client: Option<Client>,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    sources: Option<&Sources>,
    this: Arc<OnceLock<Weak<Shared>>>,
    shutdown: &Shutdown,
) -> Result<Arc<Shared>, Error> {
    let make = |path: &std::path::Path| {
        std::fs::create_dir_all(path).map_err(|e| Error::Directories(volumes::Error::io("creating", path, e)))
    };
    make(&config.root_dir)?;
    make(&config.pod_logs_dir)?;
    let volumes = Volumes::new(VolumesConfig { pods_dir: config.pods_dir(), memory_dir: config.root_dir.join("memory") });
    let volumes = volumes.map_err(Error::Directories)?;
    let runtime_name = reach(&*runtime).await.map_err(Error::Runtime)?;
    let recorder = client.clone().map(|c| Recorder::start(c, "kubelet", Some(&config.node_name), shutdown.clone()));
    let events = Events::new(recorder);
    let wake: crate::objects::Wake = Arc::new(move |uids: &BTreeSet<String>| {
        let Some(shared) = this.get().and_then(Weak::upgrade) else { return };
        for handle in uids.iter().filter_map(|uid| shared.handle(uid)) {
            handle.change(|want| want.stale = true);
        }
    });
    let addresses = machine::addresses(&config);
    Ok(Arc::new(Shared {
        machine: Machine::detect(&config),
        cgroups: crate::cgroups::Cgroups::open(&config.cgroup_root, config.manage_cgroups),
        objects: client.clone().map(|c| Arc::new(Objects::new(c, shutdown.clone(), wake))),
        services: sources.map(|s| s.services.clone()),
        statuses: Statuses::new(client.clone(), shutdown.clone()),
        probes: Probes::new(Runner { runtime: runtime.clone(), events: events.clone() }, shutdown.clone()),
        mirrors: Mirrors::new(client.clone(), &config.node_name),
        host_ips: RwLock::new(addresses.iter().map(ToString::to_string).collect()),
        starts: Semaphore::new(config.parallel_starts.max(1)),
        pods: Mutex::new(HashMap::default()),
        pulls: Mutex::default(),
        shutdown: shutdown.clone(),
        config,
        client,
        events,
        runtime,
        images,
        volumes,
        runtime_name,
    }))
}

/// The runtime's name, once it answers.
async fn reach(runtime: &dyn RuntimeService) -> node_api::Result<String> {
    let mut backoff = rt::Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    let give_up = rt::time::Instant::now() + RUNTIME_WAIT;
    loop {
        match runtime.version().await {
            Ok(version) => return Ok(version.runtime_name),
            Err(error) if rt::time::Instant::now() > give_up => return Err(error),
            Err(_) => rt::time::sleep(backoff.next_delay()).await,
        }
    }
}

/// Passes the runtime's events on to workers.
async fn follow_runtime(shared: Arc<Shared>, changes: Arc<watch::Sender<u64>>) -> Result<(), Error> {
    let mut events = shared.runtime.container_events().await.map_err(Error::Runtime)?;
    let shutdown = shared.shutdown.clone();
    rt::spawn("runtime events", async move {
        let work = async {
            loop {
                while let Some(event) = events.next().await {
                    if event.event_type == ContainerEventType::Lagged {
                        all_dirty(&shared);
                    } else if let Some(handle) = shared.handle(&event.pod_uid) {
                        handle.change(|want| want.dirty = true);
                    }
                    changes.send_modify(|n| *n += 1);
                }
                // The stream ended: an external runtime was restarted. Whatever it missed to say is looked up.
                rt::time::sleep(Duration::from_millis(500)).await;
                if let Ok(again) = shared.runtime.container_events().await {
                    events = again;
                    all_dirty(&shared);
                }
            }
        };
        shutdown.run(work).await;
    });
    Ok(())
}

fn all_dirty(shared: &Shared) {
    for handle in shared.handles() {
        handle.change(|want| want.dirty = true);
    }
}

fn start_node(shared: &Arc<Shared>, sources: &Sources) {
    let uid = watch::Sender::new(String::new());
    let seen = uid.subscribe();
    let changed = Arc::new(Notify::new());
    let ring = changed.clone();
    // Pod CIDRs arrive here; the runtime's network waits for them.
    sources.node.add_handler(move |_| ring.notify_one());
    let (node, shutdown) = (sources.node.clone(), shared.shutdown.clone());
    let mine = shared.clone();
    rt::spawn("node status", async move { shutdown.run(crate::node::update::keep(mine, node, changed, uid)).await });
    let (mine, shutdown) = (shared.clone(), shared.shutdown.clone());
    rt::spawn("node lease", async move { shutdown.run(crate::node::lease::keep(mine, seen)).await });
}

/// Log rotation and image collection.
async fn upkeep(shared: Arc<Shared>) {
    let shutdown = shared.shutdown.clone();
    let work = async {
        let mut last_images = rt::time::Instant::now();
        loop {
            rt::time::sleep(LOG_CHECK).await;
            shared.cgroups.share(&shared.active_pods());
            rotate_logs(&shared).await;
            if last_images.elapsed() >= IMAGE_CHECK {
                last_images = rt::time::Instant::now();
                if let Err(error) = worker::image_gc(&shared).await {
                    tracing::warn!(error = error.chain(), "cannot collect unused images");
                }
            }
        }
    };
    shutdown.run(work).await;
}

async fn rotate_logs(shared: &Shared) {
    for handle in shared.handles() {
        let observed = handle.view.lock().observed.clone();
        for status in observed.containers.iter().filter(|c| c.state == node_api::ContainerState::Running) {
            let path = std::path::Path::new(&status.log_path);
            let (size, files) = (shared.config.log_max_size, shared.config.log_max_files);
            match crate::logs::rotate(path, size, files) {
                Ok(true) => {
                    if let Err(error) = shared.runtime.reopen_container_log(&status.id).await {
                        tracing::warn!(container = status.id, error = error.chain(), "cannot reopen a log");
                    }
                }
                Ok(false) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(path = status.log_path, error = %error, "cannot rotate a log"),
            }
        }
    }
}

/// The informers a kubelet needs, and the pods that changed since they were last looked at.
struct Sources {
    pods: Informer<Pod>,
    services: Informer<Service>,
    node: Informer<Node>,
    changed: Arc<Mutex<Vec<Change>>>,
    ring: Arc<Notify>,
}

enum Change {
    There(Arc<Pod>),
    Gone(Arc<Pod>),
}

impl Sources {
    fn new(factory: &Factory, node_name: &str) -> Self {
        let scope = |selector: String| Scope { field_selector: selector, ..Scope::default() };
        let pods = factory.scoped::<Pod>(scope(format!("spec.nodeName={node_name}")));
        let (changed, ring) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let (queue, bell) = (changed.clone(), ring.clone());
        pods.add_handler(move |delta: &Delta<Pod>| {
            // Bounded by the main loop, which empties it whenever it rings and never waits for the network.
            queue.lock().push(match delta {
                Delta::Deleted(pod) => Change::Gone(pod.clone()),
                other => Change::There(other.object().clone()),
            });
            bell.notify_one();
        });
        Self {
            pods,
            services: factory.informer(),
            node: factory.scoped(scope(format!("metadata.name={node_name}"))),
            changed,
            ring,
        }
    }
}

/// The main loop's state.
struct Pods {
    shared: Arc<Shared>,
    sources: Option<Sources>,
    statics: file::Pods,
}

impl Pods {
    async fn run(mut self) {
        let files = watch::Sender::new(file::Pods::new());
        let mut seen_files = files.subscribe();
        if let Some(path) = self.shared.config.static_pod_path.clone() {
            files.send_replace(file::read(&path, &self.shared.config.node_name));
            let (node, shutdown) = (self.shared.config.node_name.clone(), self.shared.shutdown.clone());
            rt::spawn("static pods", file::follow(path, node, files.clone(), shutdown));
        }
        let mut known = self.known_sandboxes().await;
        // Static pods come up without an API server: the control plane itself may be one of them.
        let first = seen_files.borrow_and_update().clone();
        self.set_statics(first, &known);
        let mut synced = self.sources.is_none();
        if synced {
            self.remove_orphans(&known).await;
        }
        let mut waiting = self.sources.as_ref().map(|s| (s.pods.clone(), s.services.clone()));
        let ring = self.sources.as_ref().map_or_else(|| Arc::new(Notify::new()), |s| s.ring.clone());
        loop {
            rt::select! {
                Ok(()) = seen_files.changed() => {
                    let now = seen_files.borrow_and_update().clone();
                    self.set_statics(now, &known);
                }
                () = all_synced(&mut waiting), if !synced => {
                    synced = true;
                    self.take(&known);
                    self.remove_orphans(&known).await;
                    known.clear();
                }
                () = ring.notified(), if synced => self.take(&known),
            }
        }
    }

    /// Uids of pods that have sandboxes from before: they were admitted then.
    async fn known_sandboxes(&self) -> HashSet<String> {
        match self.shared.runtime.list_pod_sandboxes(&PodSandboxFilter::default()).await {
            Ok(list) => list.into_iter().filter_map(|s| s.labels.get(labels::POD_UID).cloned()).collect(),
            Err(error) => {
                tracing::warn!(error = error.chain(), "cannot list sandboxes");
                HashSet::default()
            }
        }
    }

    /// Takes over what the API says.
    fn take(&mut self, known: &HashSet<String>) {
        let Some(sources) = &self.sources else { return };
        let changes = std::mem::take(&mut *sources.changed.lock());
        for change in changes {
            match change {
                Change::There(pod) if pod.is_mirror() => self.mirror(pod, false),
                Change::Gone(pod) if pod.is_mirror() => self.mirror(pod, true),
                Change::There(pod) => self.there(pod, known),
                Change::Gone(pod) => {
                    if let Some(handle) = self.shared.handle(pod.uid()) {
                        handle.change(|want| (want.pod, want.gone) = (pod.clone(), true));
                    }
                }
            }
        }
    }

    fn there(&self, pod: Arc<Pod>, known: &HashSet<String>) {
        if let Some(handle) = self.shared.handle(pod.uid()) {
            handle.change(|want| want.pod = pod);
            return;
        }
        let before = known.contains(pod.uid());
        let verdict = if before || pod.is_deleting() || pod.is_terminal() { None } else { self.admit(&pod) };
        if let Some(verdict) = &verdict {
            let text = verdict.message.trim_start_matches("Pod was rejected: ").to_owned();
            self.shared.events.pod(&pod, EventType::Warning, &verdict.reason, text);
        }
        let handle = Handle::new(pod, verdict);
        self.shared.pods.lock().insert(handle.uid.clone(), handle.clone());
        worker::spawn(self.shared.clone(), handle);
    }

    fn admit(&self, pod: &Pod) -> Option<crate::pod::status::Verdict> {
        let node = self.sources.as_ref().and_then(|s| s.node.cache().get_key(&self.shared.config.node_name));
        let others = self.shared.active_pods();
        admit::check(&admit::Inputs {
            pod,
            node: node.as_deref(),
            allocatable: &self.shared.allocatable(),
            others: &others,
            unsafe_sysctls: &self.shared.config.allowed_unsafe_sysctls,
        })
    }

    fn set_statics(&mut self, now: file::Pods, known: &HashSet<String>) {
        for (uid, pod) in &self.statics {
            if !now.contains_key(uid)
                && let Some(handle) = self.shared.handle(uid)
            {
                handle.change(|want| want.gone = true);
                let _ = pod;
            }
        }
        for (uid, pod) in &now {
            if !self.statics.contains_key(uid) {
                self.there(pod.clone(), known);
                self.make_mirror(pod.clone());
            }
        }
        self.statics = now;
        for mirror in self.shared.mirrors.all() {
            if mirror::orphaned(&mirror, &self.statics) {
                self.drop_mirror(mirror);
            }
        }
    }

    fn mirror(&self, pod: Arc<Pod>, gone: bool) {
        let twin = self.statics.values().find(|p| p.name() == pod.name() && p.namespace() == pod.namespace()).cloned();
        if gone {
            self.shared.mirrors.gone(&pod);
            // Somebody deleted the mirror: the static pod is still there.
            twin.into_iter().for_each(|twin| self.make_mirror(twin));
            return;
        }
        self.shared.mirrors.seen(pod.clone());
        match twin {
            None => self.drop_mirror(pod),
            Some(_) if pod.is_deleting() => self.drop_mirror(pod),
            Some(twin) => {
                if let Some(handle) = self.shared.handle(twin.uid()) {
                    handle.wake.notify_one();
                }
            }
        }
    }

    fn make_mirror(&self, pod: Arc<Pod>) {
        let shared = self.shared.clone();
        rt::spawn("mirror pod", async move {
            let mut backoff = rt::Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
            let shutdown = shared.shutdown.clone();
            let work = async {
                while let Err(error) = shared.mirrors.ensure(&pod).await {
                    tracing::debug!(pod = pod.name(), error = error.chain(), "cannot make a mirror pod; trying again");
                    rt::time::sleep(backoff.next_delay()).await;
                    if shared.handle(pod.uid()).is_none_or(|h| h.want.lock().gone) {
                        return;
                    }
                }
                if let Some(handle) = shared.handle(pod.uid()) {
                    handle.wake.notify_one();
                }
            };
            shutdown.run(work).await;
        });
    }

    fn drop_mirror(&self, mirror: Arc<Pod>) {
        let shared = self.shared.clone();
        rt::spawn("mirror pod", async move {
            if let Err(error) = shared.mirrors.delete(&mirror).await {
                tracing::warn!(pod = mirror.name(), error = error.chain(), "cannot delete a mirror pod");
            }
        });
    }

    /// Ends what runs for pods that no source knows any more.
    async fn remove_orphans(&self, known: &HashSet<String>) {
        let runtime = &self.shared.runtime;
        let sandboxes = runtime.list_pod_sandboxes(&PodSandboxFilter::default()).await.unwrap_or_default();
        for sandbox in sandboxes {
            let Some(uid) = sandbox.labels.get(labels::POD_UID).filter(|uid| known.contains(*uid)).cloned() else { continue };
            if self.shared.handle(&uid).is_some() {
                continue;
            }
            tracing::info!(pod = sandbox.metadata.name, ns = sandbox.metadata.namespace, "ending a pod that is known no more");
            rt::spawn("orphan", remove_orphan(self.shared.clone(), sandbox.id, uid));
        }
        let entries = std::fs::read_dir(self.shared.config.pods_dir()).into_iter().flatten().flatten();
        for uid in entries.filter_map(|e| e.file_name().into_string().ok()) {
            if self.shared.handle(&uid).is_none() && !known.contains(&uid) {
                remove_directory(&self.shared, &uid).await;
            }
        }
    }
}

async fn all_synced(of: &mut Option<(Informer<Pod>, Informer<Service>)>) {
    if let Some((pods, services)) = of {
        pods.synced().await;
        services.synced().await;
    }
}

async fn remove_orphan(shared: Arc<Shared>, sandbox: String, uid: String) {
    let of_pod = node_api::ContainerFilter { pod_sandbox_id: Some(sandbox.clone()), ..Default::default() };
    let containers = shared.runtime.list_containers(&of_pod).await.unwrap_or_default();
    let stops = containers.iter().filter(|c| c.state == node_api::ContainerState::Running).map(|c| {
        let grace = c.annotations.get(labels::GRACE).and_then(|g| g.parse().ok()).unwrap_or(30);
        shared.runtime.stop_container(&c.id, Duration::from_secs(grace))
    });
    futures::future::join_all(stops).await;
    let _ = shared.runtime.stop_pod_sandbox(&sandbox).await;
    if let Err(error) = shared.runtime.remove_pod_sandbox(&sandbox).await {
        tracing::warn!(sandbox, error = error.chain(), "cannot remove an orphaned sandbox");
        return;
    }
    remove_directory(&shared, &uid).await;
}

async fn remove_directory(shared: &Shared, uid: &str) {
    if let Err(error) = shared.volumes.tear_down(uid).await {
        tracing::warn!(uid, error = %error, "cannot take down the volumes of an orphaned pod");
        return;
    }
    shared.cgroups.remove_orphan(uid);
    let dir = shared.config.pods_dir().join(uid);
    let _ = std::fs::remove_dir_all(dir.join("containers"));
    let _ = std::fs::remove_file(dir.join("etc-hosts"));
    let _ = std::fs::remove_dir(dir);
}
