//! Sandboxes: run, stop, remove.

use std::sync::Arc;
use std::time::{Duration, Instant};

use node_api::{ContainerEventType, DnsConfig, Error, NamespaceMode, NetworkRequest, PodSandboxConfig, Result};

use super::records::{Pod, PodState, SANDBOX_FILE, SandboxRecord, write_json};
use super::{Inner, now_ns, sys_error};
use crate::proto::{Op, PodSetup};
use crate::supervisor::{CONTAINERS_DIR, SETUP_FILE};

/// How long a supervisor may take to end after its last container was killed.
const END_LIMIT: Duration = Duration::from_secs(20);

/// How long an ending supervisor may take to leave the pod's group.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

/// The group of pods for which the kubelet gave none.
const OWN_GROUPS: &str = "/corten-pods";

impl Inner {
    pub(super) async fn run_pod(self: &Arc<Self>, config: &PodSandboxConfig, handler: &str) -> Result<String> {
        self.check_pod(config, handler)?;
        let id = super::ids::new_id()?;
        let options = &config.linux.security_context.namespace_options;
        let netns = (options.network != NamespaceMode::Node).then(|| self.root.join("netns").join(&id));
        // Without a group nothing could be found and killed after a supervisor's death: there always is one.
        let cgroup = match config.linux.cgroup_parent.as_str() {
            "" => format!("{OWN_GROUPS}/{id}"),
            given => given.to_owned(),
        };
        let record = SandboxRecord {
            config: config.clone(),
            cgroup,
            runtime_handler: handler.to_owned(),
            created_at: now_ns(),
            netns,
        };
        let dir = self.pods_dir().join(&id);
        let pod = Arc::new(Pod::new(id.clone(), dir, record, PodState::default()));
        let started = self.start_pod(&pod).await;
        if let Err(error) = started {
            self.undo_pod(&pod).await;
            return Err(error);
        }
        self.pods.lock().insert(id.clone(), Arc::clone(&pod));
        self.emit(&pod, &id, ContainerEventType::Created);
        self.emit(&pod, &id, ContainerEventType::Started);
        Ok(id)
    }

    /// Removes a pod that was only half made.
    pub(super) async fn undo_pod(self: &Arc<Self>, pod: &Arc<Pod>) {
        if let Err(error) = self.take_down(pod).await {
            tracing::warn!(pod = pod.id, error = error.chain(), "a half made pod could not be undone");
        }
        self.erase(pod).await;
    }

    fn check_pod(&self, config: &PodSandboxConfig, handler: &str) -> Result<()> {
        if !handler.is_empty() && !self.options.handlers.iter().any(|h| h == handler) {
            return Err(Error::InvalidArgument(format!("no runtime for {handler:?} is configured")));
        }
        if config.linux.security_context.namespace_options.user_namespace.is_some() {
            return Err(Error::Unsupported("user namespaces (hostUsers: false) are not supported".to_owned()));
        }
        if config.hostname.len() > 64 {
            return Err(Error::InvalidArgument(format!("host name {:?} is longer than 64 bytes", config.hostname)));
        }
        Ok(())
    }

    async fn start_pod(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<()> {
        let begun = Instant::now();
        self.make_pod_dir(pod)?;
        let directory = begun.elapsed();
        self.start_supervisor(pod).await?;
        let supervisor = begun.elapsed();
        if let (Some(network), Some(request)) = (&self.options.network, network_request(pod)) {
            pod.state.lock().network_up = true;
            pod.save_state()?;
            let attachment = network.setup(&request).await?;
            pod.state.lock().ips = attachment.ips;
        }
        pod.state.lock().started = true;
        tracing::debug!(pod = pod.id, ?directory, ?supervisor, network = ?begun.elapsed(), "pod made");
        pod.save_state()
    }

    /// Makes the pod's directory under a hidden name, and shows it when it is complete.
    fn make_pod_dir(&self, pod: &Pod) -> Result<()> {
        let hidden = self.pods_dir().join(format!(".new-{}", pod.id));
        let io = |what: &'static str| move |e: std::io::Error| Error::internal(what, e);
        std::fs::create_dir_all(hidden.join(CONTAINERS_DIR)).map_err(io("make the pod's directory"))?;
        let config = &pod.record.config;
        write_json(&hidden.join(SANDBOX_FILE), &pod.record)?;
        write_json(&hidden.join(SETUP_FILE), &pod_setup(pod))?;
        let resolv = match &config.dns_config {
            Some(dns) => resolv_conf(dns),
            None => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        };
        std::fs::write(hidden.join("resolv.conf"), resolv).map_err(io("write resolv.conf"))?;
        let hostname = if config.hostname.is_empty() {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            config.hostname.clone()
        };
        std::fs::write(hidden.join("hostname"), format!("{hostname}\n")).map_err(io("write the host name"))?;
        let own_ipc = config.linux.security_context.namespace_options.ipc != NamespaceMode::Node;
        if own_ipc {
            std::fs::create_dir(hidden.join("shm")).map_err(io("make shm"))?;
        }
        std::fs::rename(&hidden, &pod.dir).map_err(io("name the pod's directory"))?;
        if own_ipc {
            const SAFE: u64 = sys::mount::attr::NOSUID | sys::mount::attr::NODEV | sys::mount::attr::NOEXEC;
            let options = [("mode", Some("1777")), ("size", Some("67108864"))];
            sys::mount::tmpfs(&pod.dir.join("shm"), &options, SAFE).map_err(sys_error)?;
        }
        Ok(())
    }

    pub(super) async fn stop_pod(&self, id: &str) -> Result<()> {
        let pod = match self.pod(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let _ending = pod.ending.lock().await;
        let down = self.take_down(&pod).await;
        pod.state.lock().stopped = true;
        if pod.dir.exists() {
            pod.save_state()?;
        }
        down
    }

    /// Ends the supervisor and gives the network back. Every step is tried whatever became of the others, and all can
    /// be repeated. Only a network that could not be given back is an error: the kubelet then tries again.
    async fn take_down(&self, pod: &Arc<Pod>) -> Result<()> {
        let mut down = Ok(());
        let link = pod.link.borrow().clone();
        if let Some(link) = link {
            let mut watch = pod.link.subscribe();
            let ended = async {
                let _ = link.call(Op::Shutdown, &[]).await;
                let _ = watch.wait_for(Option::is_none).await;
            };
            if tokio::time::timeout(END_LIMIT, ended).await.is_err() {
                tracing::warn!(pod = pod.id, "the pod's processes do not end");
            }
            // A process closes its sockets before it leaves its group: the kubelet, which removes the pod's group
            // next, must not find the supervisor still in it.
            let group = self.hierarchies.group(&pod.record.cgroup);
            let _ = tokio::task::spawn_blocking(move || group.wait_empty(LEAVE_LIMIT)).await;
        }
        let up = pod.state.lock().network_up;
        if up && let (Some(network), Some(request)) = (&self.options.network, network_request(pod)) {
            match network.teardown(&request).await {
                Ok(()) => pod.state.lock().network_up = false,
                Err(error) => down = Err(error),
            }
        }
        if down.is_ok()
            && let Some(netns) = &pod.record.netns
            && let Err(error) = sys::namespace::unpin(netns)
        {
            tracing::warn!(pod = pod.id, error = error.line(), "the network namespace could not be removed");
        }
        if let Err(error) = sys::mount::unmount_if_mounted(&pod.dir.join("shm")) {
            tracing::warn!(pod = pod.id, error = error.line(), "the pod's shm could not be unmounted");
        }
        down
    }

    pub(super) async fn remove_pod(self: &Arc<Self>, id: &str) -> Result<()> {
        self.stop_pod(id).await?;
        let pod = match self.pod(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        let _ending = pod.ending.lock().await;
        let containers = self.containers_of(id);
        for container in &containers {
            self.containers.lock().remove(&container.id);
            self.options.images.release(&container.id).await;
        }
        self.erase(&pod).await;
        self.pods.lock().remove(id);
        for container in &containers {
            self.emit_container(container, ContainerEventType::Deleted);
        }
        self.emit(&pod, id, ContainerEventType::Deleted);
        Ok(())
    }

    /// Removes the pod's groups and directory.
    async fn erase(self: &Arc<Self>, pod: &Arc<Pod>) {
        let (inner, pod) = (Arc::clone(self), Arc::clone(pod));
        let work = move || {
            let parent = &pod.record.cgroup;
            for entry in std::fs::read_dir(pod.dir.join(CONTAINERS_DIR)).into_iter().flatten().flatten() {
                inner.remove_group(&join_cgroup(parent, &entry.file_name().to_string_lossy()));
            }
            if pod.owns_cgroup() {
                inner.remove_group(parent);
                // The directory of all such groups goes with the last of them; until then this fails, as it should.
                let all = inner.hierarchies.group(OWN_GROUPS);
                all.directories().iter().for_each(|dir| drop(std::fs::remove_dir(dir)));
            } else if inner.hierarchies.mode() == sys::cgroup::Mode::V2 {
                inner.remove_group(&join_cgroup(parent, "supervisor"));
            }
            let gone = inner.pods_dir().join(format!(".gone-{}", pod.id));
            let hidden = inner.pods_dir().join(format!(".new-{}", pod.id));
            let renamed = std::fs::rename(&pod.dir, &gone);
            inner.discard(if renamed.is_ok() { &gone } else { &pod.dir });
            inner.discard(&hidden);
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::warn!(%error, "removing a pod's directory failed");
        }
    }
}

/// The group of a container below its pod's.
pub(super) fn join_cgroup(parent: &str, name: &str) -> String {
    format!("{}/{name}", parent.trim_end_matches('/'))
}

fn pod_setup(pod: &Pod) -> PodSetup {
    let config = &pod.record.config;
    let options = &config.linux.security_context.namespace_options;
    PodSetup {
        id: pod.id.clone(),
        netns: pod.record.netns.clone(),
        ipc: options.ipc != NamespaceMode::Node,
        shared_pid: options.pid == NamespaceMode::Pod,
        hostname: if options.network == NamespaceMode::Node { String::new() } else { config.hostname.clone() },
        sysctls: config.linux.sysctls.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        cgroup_parent: pod.record.cgroup.clone(),
        oom_score_adj: -998,
    }
}

/// What the network has to know of a pod; `None` on the host network.
pub(super) fn network_request(pod: &Pod) -> Option<NetworkRequest> {
    let config = &pod.record.config;
    Some(NetworkRequest {
        sandbox_id: pod.id.clone(),
        metadata: config.metadata.clone(),
        netns: pod.record.netns.clone()?,
        port_mappings: config.port_mappings.clone(),
        dns: config.dns_config.clone(),
        annotations: config.annotations.clone(),
        cgroup_parent: config.linux.cgroup_parent.clone(),
    })
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}
