//! The main loop: what the sources say becomes workers.

use std::sync::Arc;
use std::time::Duration;

use informer::{Delta, EventType, Factory, Informer, Scope};
use node_api::PodSandboxFilter;
use parking_lot::Mutex;
use rt::HashSet;
use rt::sync::{Notify, watch};

use crate::admit;
use crate::k8s::core::Service;
use crate::k8s::{Kind, Node, Pod, PodExt};
use crate::pod::labels;
use crate::shared::{Handle, Shared};
use crate::source::file;
use crate::source::mirror;
use crate::worker;

/// The informers a kubelet needs, and the pods that changed since they were last looked at.
pub(crate) struct Sources {
    pods: Informer<Pod>,
    pub(crate) services: Informer<Service>,
    pub(crate) node: Informer<Node>,
    changed: Arc<Mutex<Vec<Change>>>,
    ring: Arc<Notify>,
}

enum Change {
    There(Arc<Pod>),
    Gone(Arc<Pod>),
}

impl Sources {
    /// For one node; they start with the factory.
    pub(crate) fn new(factory: &Factory, node_name: &str) -> Self {
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
pub(crate) struct Pods {
    shared: Arc<Shared>,
    sources: Option<Sources>,
    statics: file::Pods,
    /// Static pods whose predecessor of the same name has just ended.
    late: (Arc<Mutex<Vec<Arc<Pod>>>>, Arc<Notify>),
}

impl Pods {
    /// For a kubelet; without sources there are static pods only.
    pub(crate) fn new(shared: Arc<Shared>, sources: Option<Sources>) -> Self {
        let late = (Arc::default(), Arc::new(Notify::new()));
        Self { shared, sources, statics: file::Pods::new(), late }
    }

    /// Until the end.
    pub(crate) async fn run(mut self) {
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
        let late = self.late.1.clone();
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
                () = late.notified() => {
                    let pods = std::mem::take(&mut *self.late.0.lock());
                    pods.into_iter().filter(|p| self.statics.contains_key(p.uid())).for_each(|p| self.there(p, &known));
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
                self.static_there(pod.clone(), known);
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

    /// Two static pods of one name must not run side by side: a changed one waits for its former self.
    fn static_there(&self, pod: Arc<Pod>, known: &HashSet<String>) {
        let Some(before) = self.shared.find(pod.namespace(), pod.name(), None).filter(|h| h.uid != pod.uid()) else {
            return self.there(pod, known);
        };
        let (late, bell) = self.late.clone();
        let shutdown = self.shared.shutdown.clone();
        rt::spawn("static pod waits", async move {
            if shutdown.run(before.ended.cancelled()).await.is_some() {
                late.lock().push(pod);
                bell.notify_one();
            }
        });
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
            let Some(uid) = sandbox.labels.get(labels::POD_UID).filter(|uid| known.contains(*uid)).cloned() else {
                continue;
            };
            if self.shared.handle(&uid).is_some() {
                continue;
            }
            tracing::info!(
                pod = sandbox.metadata.name,
                ns = sandbox.metadata.namespace,
                "ending a pod that is known no more"
            );
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
