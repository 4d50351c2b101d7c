//! Containers: create, start, stop, remove, describe.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node_api::{
    Container, ContainerConfig, ContainerEventType, ContainerFilter, ContainerState, ContainerStatus, Error,
    ImageContent, ImageSpec, LinuxResources, PodSandbox, PodSandboxFilter, PodSandboxState, PodSandboxStatus, Result,
};

use super::records::{CONTAINER_FILE, ContainerEntry, ContainerRecord, Pod, SPEC_FILE, read_json, write_json};
use super::{Inner, now_ns};
use crate::proto::{Op, Phase, Run};
use crate::spec::Spec;

/// How long a killed container may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(120);

impl Inner {
    pub(super) async fn create(&self, pod_id: &str, config: &ContainerConfig) -> Result<String> {
        let pod = self.pod(pod_id)?;
        pod.link()?;
        let id = super::ids::new_id()?;
        let image = self.options.images.content(&config.image).await?;
        self.options.images.acquire(&image.id, &id).await?;
        let created = self.create_with(&pod, &id, config, &image).await;
        if created.is_err() {
            self.options.images.release(&id).await;
        }
        let container = created?;
        self.containers.lock().insert(id.clone(), Arc::clone(&container));
        self.emit_container(&container, ContainerEventType::Created);
        Ok(id)
    }

    async fn create_with(
        &self,
        pod: &Arc<Pod>,
        id: &str,
        config: &ContainerConfig,
        image: &ImageContent,
    ) -> Result<Arc<ContainerEntry>> {
        let built = self.build_spec(pod, id, config, image).await?;
        for image in &built.volume_images {
            self.options.images.acquire(image, id).await?;
        }
        let record = ContainerRecord {
            config: config.clone(),
            created_at: now_ns(),
            image_id: image.id.clone(),
            image_ref: image.image_ref.clone(),
            image_name: image.name.clone(),
            user: built.user.to_status(),
            stop_signal: built.stop_signal,
            log_path: built.log_path,
            cgroup: built.spec.linux.cgroups_path.clone(),
        };
        make_container_dir(pod, id, &record, &built.spec)?;
        Ok(Arc::new(ContainerEntry::new(id.to_owned(), Arc::clone(pod), record, Run::default())))
    }

    pub(super) async fn start(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        if container.phase() != Phase::Created {
            return Err(Error::FailedPrecondition(format!("container {id} was started already")));
        }
        let link = container.pod.link()?;
        match link.call(Op::Start { container: id.to_owned() }, &[]).await {
            Ok((answer, _)) => {
                if let Some((_, run)) = answer.containers.into_iter().next() {
                    // The supervisor's own news of it may come before or after; an end already seen stays.
                    container.run.send_if_modified(|old| {
                        let news = old.phase == Phase::Created;
                        if news {
                            *old = run;
                        }
                        news
                    });
                }
                Ok(())
            }
            Err(Error::Container { context, source }) => {
                if let Ok(run) = read_json::<Run>(&container.dir().join("state.json")) {
                    container.run.send_replace(run);
                }
                self.emit_container(&container, ContainerEventType::Stopped);
                let context = format!("failed to start container {:?}: {context}", &id);
                Err(Error::Container { context, source })
            }
            Err(other) => Err(other),
        }
    }

    pub(super) async fn stop(&self, id: &str, timeout: Duration) -> Result<()> {
        let container = match self.container(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        if container.phase() != Phase::Running {
            return Ok(());
        }
        let Ok(link) = container.pod.link() else { return Ok(()) };
        let mut run = container.run.subscribe();
        if !timeout.is_zero() {
            let signal = sys::process::signal_number(&container.record.stop_signal).unwrap_or(libc::SIGTERM);
            link.call(Op::Kill { container: id.to_owned(), signal, all: false }, &[]).await?;
            let ended = run.wait_for(|r| r.phase == Phase::Exited);
            if tokio::time::timeout(timeout, ended).await.is_ok() {
                return Ok(());
            }
        }
        link.call(Op::Kill { container: id.to_owned(), signal: libc::SIGKILL, all: true }, &[]).await?;
        let ended = run.wait_for(|r| r.phase == Phase::Exited);
        match tokio::time::timeout(KILL_LIMIT, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::DeadlineExceeded(format!("container {id} does not end after SIGKILL"))),
        }
    }

    pub(super) async fn remove(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = match self.container(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        self.stop(id, Duration::ZERO).await?;
        let link = container.pod.link.borrow().clone();
        if let Some(link) = link {
            link.call(Op::Remove { container: id.to_owned() }, &[]).await?;
        }
        let (inner, entry) = (Arc::clone(self), Arc::clone(&container));
        let work = move || {
            inner.remove_group(&entry.record.cgroup);
            let gone = entry.dir().with_file_name(format!(".gone-{}", entry.id));
            match std::fs::rename(entry.dir(), &gone) {
                Ok(()) => inner.discard(&gone),
                Err(_) => inner.discard(&entry.dir()),
            }
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("remove a container", e))?;
        self.containers.lock().remove(id);
        self.options.images.release(id).await;
        self.emit_container(&container, ContainerEventType::Deleted);
        Ok(())
    }

    pub(super) async fn update(&self, id: &str, limits: &LinuxResources) -> Result<()> {
        let container = self.container(id)?;
        let merged = merge(&container.resources.lock(), limits);
        let resources = super::spec::resources(&merged);
        match container.phase() {
            Phase::Created => {
                let path = container.dir().join(SPEC_FILE);
                let mut spec: Spec = read_json(&path)?;
                let devices = spec.linux.resources.devices.take();
                spec.linux.resources = crate::spec::Resources { devices, ..resources };
                write_json(&path, &spec)?;
            }
            Phase::Running => {
                let op = Op::Update { container: id.to_owned(), resources: Box::new(resources) };
                container.pod.link()?.call(op, &[]).await?;
            }
            Phase::Exited => return Err(Error::FailedPrecondition(format!("container {id} is not running"))),
        }
        let mut record = container.record.clone();
        record.config.linux.resources = merged.clone();
        write_json(&container.dir().join(CONTAINER_FILE), &record)?;
        *container.resources.lock() = merged;
        Ok(())
    }

    pub(super) fn list(&self, filter: &ContainerFilter) -> Vec<Arc<ContainerEntry>> {
        let containers = self.containers.lock();
        let wanted = |c: &&Arc<ContainerEntry>| {
            filter.id.as_ref().is_none_or(|id| *id == c.id)
                && filter.state.is_none_or(|state| state == state_of(c.phase()))
                && filter.pod_sandbox_id.as_ref().is_none_or(|id| *id == c.pod.id)
                && filter.labels.iter().all(|(k, v)| c.record.config.labels.get(k) == Some(v))
        };
        containers.values().filter(wanted).cloned().collect()
    }

    pub(super) fn list_pods(&self, filter: &PodSandboxFilter) -> Vec<Arc<Pod>> {
        let pods = self.pods.lock();
        let wanted = |p: &&Arc<Pod>| {
            filter.id.as_ref().is_none_or(|id| *id == p.id)
                && filter.state.is_none_or(|state| state == pod_state(p))
                && filter.labels.iter().all(|(k, v)| p.record.config.labels.get(k) == Some(v))
        };
        pods.values().filter(wanted).cloned().collect()
    }
}

fn make_container_dir(pod: &Pod, id: &str, record: &ContainerRecord, spec: &Spec) -> Result<()> {
    let hidden = pod.container_dir(&format!(".new-{id}"));
    let made = || -> Result<()> {
        for sub in ["upper", "work", "rootfs"] {
            let dir = hidden.join(sub);
            std::fs::create_dir_all(&dir).map_err(|e| Error::internal(format!("make {}", dir.display()), e))?;
        }
        write_json(&hidden.join(CONTAINER_FILE), record)?;
        write_json(&hidden.join(SPEC_FILE), spec)?;
        std::fs::rename(&hidden, pod.container_dir(id)).map_err(|e| Error::internal("name the container", e))
    }();
    if made.is_err() {
        let _ = sys::fs::remove_tree(&hidden);
    }
    made
}

/// What is given replaces what was; zero and empty mean "not given".
fn merge(old: &LinuxResources, new: &LinuxResources) -> LinuxResources {
    let number = |old: i64, new: i64| if new == 0 { old } else { new };
    let text = |old: &String, new: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let mut unified = old.unified.clone();
    unified.extend(new.unified.clone());
    LinuxResources {
        cpu_period: number(old.cpu_period, new.cpu_period),
        cpu_quota: number(old.cpu_quota, new.cpu_quota),
        cpu_shares: number(old.cpu_shares, new.cpu_shares),
        memory_limit_bytes: number(old.memory_limit_bytes, new.memory_limit_bytes),
        memory_swap_limit_bytes: number(old.memory_swap_limit_bytes, new.memory_swap_limit_bytes),
        oom_score_adj: old.oom_score_adj,
        cpuset_cpus: text(&old.cpuset_cpus, &new.cpuset_cpus),
        cpuset_mems: text(&old.cpuset_mems, &new.cpuset_mems),
        hugepage_limits: if new.hugepage_limits.is_empty() {
            old.hugepage_limits.clone()
        } else {
            new.hugepage_limits.clone()
        },
        pids_limit: number(old.pids_limit, new.pids_limit),
        unified,
    }
}

pub(super) fn state_of(phase: Phase) -> ContainerState {
    match phase {
        Phase::Created => ContainerState::Created,
        Phase::Running => ContainerState::Running,
        Phase::Exited => ContainerState::Exited,
    }
}

fn pod_state(pod: &Pod) -> PodSandboxState {
    if pod.ready() { PodSandboxState::Ready } else { PodSandboxState::NotReady }
}

pub(super) fn describe(c: &ContainerEntry) -> Container {
    let config = &c.record.config;
    Container {
        id: c.id.clone(),
        pod_sandbox_id: c.pod.id.clone(),
        metadata: config.metadata.clone(),
        image: config.image.clone(),
        image_id: c.record.image_id.clone(),
        state: state_of(c.phase()),
        created_at: c.record.created_at,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
    }
}

/// As containerd shows it: a name where the image has one, whatever it was asked for by.
fn status_image(c: &ContainerEntry) -> ImageSpec {
    let mut image = c.record.config.image.clone();
    if !c.record.image_name.is_empty() {
        image.image.clone_from(&c.record.image_name);
    }
    image
}

pub(super) fn status_of(c: &ContainerEntry) -> ContainerStatus {
    let (config, run) = (&c.record.config, c.run.borrow().clone());
    let reason = match run.phase {
        Phase::Exited if run.oom_killed => node_api::REASON_OOM_KILLED,
        Phase::Exited if !run.reason.is_empty() => run.reason.as_str(),
        Phase::Exited if run.exit_code == 0 => node_api::REASON_COMPLETED,
        Phase::Exited => node_api::REASON_ERROR,
        _ => "",
    };
    let log_path = |path: &Path| path.display().to_string();
    ContainerStatus {
        id: c.id.clone(),
        pod_sandbox_id: c.pod.id.clone(),
        metadata: config.metadata.clone(),
        state: state_of(run.phase),
        created_at: c.record.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        exit_code: run.exit_code,
        image: status_image(c),
        image_ref: c.record.image_ref.clone(),
        image_id: c.record.image_id.clone(),
        reason: reason.to_owned(),
        message: run.message,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        mounts: config.mounts.clone(),
        log_path: log_path(&c.record.log_path),
        resources: c.resources.lock().clone(),
        user: Some(c.record.user.clone()),
        stop_signal: c.record.stop_signal.clone(),
        pid: run.pid,
    }
}

pub(super) fn describe_pod(p: &Pod) -> PodSandbox {
    let config = &p.record.config;
    PodSandbox {
        id: p.id.clone(),
        metadata: config.metadata.clone(),
        state: pod_state(p),
        created_at: p.record.created_at,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: p.record.runtime_handler.clone(),
    }
}

pub(super) fn status_of_pod(p: &Pod) -> PodSandboxStatus {
    let config = &p.record.config;
    PodSandboxStatus {
        id: p.id.clone(),
        metadata: config.metadata.clone(),
        state: pod_state(p),
        created_at: p.record.created_at,
        network: p.state.lock().ips.clone(),
        netns: p.record.netns.as_ref().map(|n| n.display().to_string()),
        namespace_options: config.linux.security_context.namespace_options.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: p.record.runtime_handler.clone(),
    }
}
