//! Putting it all together: sources in, workers out.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use client::Client;
use futures::StreamExt;
use informer::{EventType, Factory, Recorder};
use node_api::{ContainerEventType, ImageService, NetworkService, RuntimeService};
use parking_lot::{Mutex, RwLock};
use rt::sync::{Notify, Semaphore, watch};
use rt::{HashMap, Shutdown};
use volumes::{Volumes, VolumesConfig};

use crate::config::Config;
use crate::events::Events;
use crate::main_loop::{Pods, Sources};
use crate::node::machine::{self, Machine};
use crate::objects::Objects;
use crate::probe::{Probes, Runner};
use crate::shared::Shared;
use crate::source::mirror::Mirrors;
use crate::statuses::Statuses;
use crate::worker;

/// How long the start waits for the runtime to answer.
const RUNTIME_WAIT: Duration = Duration::from_secs(60);
const LOG_CHECK: Duration = Duration::from_secs(10);
const IMAGE_CHECK: Duration = Duration::from_secs(300);
/// Every so many log checks, free memory is given back.
const TRIM_ROUNDS: u64 = 3;

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
    let pods = Pods::new(shared.clone(), sources);
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
    if let Some(logs) = config.pod_logs_dir.parent() {
        make(&logs.join("containers"))?;
    }
    let volumes =
        Volumes::new(VolumesConfig { pods_dir: config.pods_dir(), memory_dir: config.root_dir.join("memory") });
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

/// Log rotation, image collection, and free memory back to the kernel.
async fn upkeep(shared: Arc<Shared>) {
    let shutdown = shared.shutdown.clone();
    let work = async {
        let mut last_images = rt::time::Instant::now();
        let mut unused = worker::Unused::default();
        for round in 0u64.. {
            rt::time::sleep(LOG_CHECK).await;
            if round % TRIM_ROUNDS == 0 {
                // What starts (our own, or of many pods) leave behind would stay for ever on an idle node.
                sys::memory::trim_heaps();
                sys::memory::forget_code();
            }
            shared.cgroups.share(&shared.active_pods());
            rotate_logs(&shared).await;
            if last_images.elapsed() >= IMAGE_CHECK {
                last_images = rt::time::Instant::now();
                if let Err(error) = worker::image_gc(&shared, &mut unused).await {
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
