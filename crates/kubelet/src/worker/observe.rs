//! Looking at what the runtime has of the pod.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node_api::{ContainerFilter, ContainerState, ContainerStatus, PodSandboxFilter};

use super::Worker;
use crate::k8s::{Kind, PodExt};
use crate::pod::labels;
use crate::pod::observed::{Observed, restart_count};
use crate::probe::Target;

const MAX_MESSAGE: usize = 4096;
const MAX_LOG_MESSAGE: u64 = 2048;
const MAX_LOG_LINES: usize = 80;

impl Worker {
    pub(super) async fn observe(&mut self) {
        match self.look().await {
            Ok(observed) => {
                self.dirty = false;
                self.observed = observed;
                let known = &self.observed.containers;
                self.killing.retain(|id| known.iter().any(|c| c.id == *id));
                self.ended.retain(|id| known.iter().any(|c| c.id == *id));
                self.handle.view.lock().observed = self.observed.clone();
                self.follow_probes();
            }
            Err(error) => {
                tracing::warn!(pod = self.pod.name(), error = error.chain(), "cannot look at a pod in the runtime");
                self.wake_by(rt::time::now().checked_add(Duration::from_secs(1)).unwrap_or(rt::time::Timestamp::MAX));
            }
        }
    }

    async fn look(&mut self) -> node_api::Result<Observed> {
        let runtime = self.shared.runtime.clone();
        let of_pod = labels::selector(&self.handle.uid);
        let sandboxes =
            runtime.list_pod_sandboxes(&PodSandboxFilter { labels: of_pod.clone(), ..Default::default() }).await?;
        let containers = runtime.list_containers(&ContainerFilter { labels: of_pod, ..Default::default() }).await?;
        let mut boxes = Vec::with_capacity(sandboxes.len());
        for sandbox in sandboxes {
            match runtime.pod_sandbox_status(&sandbox.id).await {
                Ok(status) => boxes.push(Arc::new(status)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let mut statuses = Vec::with_capacity(containers.len());
        for container in containers {
            if let Some(known) = self.finals.get(&container.id) {
                statuses.push(known.clone());
                continue;
            }
            match runtime.container_status(&container.id).await {
                Ok(mut status) => {
                    if status.metadata.name.is_empty() {
                        status.metadata.name = status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default();
                    }
                    let ended = status.state == ContainerState::Exited;
                    if ended {
                        add_message(&mut status);
                    }
                    let status = Arc::new(status);
                    if ended {
                        self.finals.insert(container.id, status.clone());
                    }
                    statuses.push(status);
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let observed = Observed::new(boxes, statuses);
        self.finals.retain(|id, _| observed.containers.iter().any(|c| c.id == *id));
        Ok(observed)
    }

    /// Probes run exactly while their container does.
    fn follow_probes(&mut self) {
        let ip = self.shared.facts(&self.pod, &self.observed).pod_ips.first().cloned().unwrap_or_default();
        for status in &self.observed.containers {
            if status.state != ContainerState::Running {
                self.shared.probes.stop(&status.id);
                continue;
            }
            if self.pod.is_deleting() {
                self.shared.probes.hold(&status.id);
                continue;
            }
            let Some(container) = self.pod.all_containers().find(|c| c.name == status.metadata.name).cloned() else {
                continue;
            };
            if container.startup_probe.is_none()
                && container.liveness_probe.is_none()
                && container.readiness_probe.is_none()
            {
                continue;
            }
            let id = format!("{}://{}", self.shared.runtime_name, status.id);
            let known = |told: &crate::k8s::PodStatus| {
                let all = told.container_statuses.iter().chain(&told.init_container_statuses).flatten();
                all.filter(|c| c.container_id.as_deref() == Some(&id)).any(|c| c.started == Some(true))
            };
            let known_started =
                self.pod.status.as_ref().is_some_and(known) && self.shared.statuses.get(&self.handle.uid).is_none();
            let started =
                rt::time::Timestamp::from_nanosecond(i128::from(status.started_at)).unwrap_or(self.started_at);
            let target = Target {
                pod: self.pod.clone(),
                container,
                id: status.id.clone(),
                ip: ip.clone(),
                started,
                known_started,
            };
            let handle = self.handle.clone();
            self.shared.probes.start(target, move || handle.wake.notify_one());
        }
    }

    /// How many runs of a container there were: from the runtime's newest, or from the logs it left.
    pub(super) fn next_restart_count(&self, name: &str) -> u32 {
        if let Some(latest) = self.observed.latest(name) {
            return restart_count(latest) + 1;
        }
        let dir = crate::spec::sandbox::log_directory(&self.shared.config.pod_logs_dir, &self.pod).join(name);
        let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
        let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.split('.').next()?.parse::<u32>().ok();
        entries.flatten().filter_map(number).max().map_or(0, |last| last + 1)
    }
}

/// Adds the termination message of an ended container, from its file or, where asked for, from the end of its log.
fn add_message(status: &mut ContainerStatus) {
    let path = status.annotations.get(labels::MESSAGE_PATH).cloned().unwrap_or_default();
    let mount = status.mounts.iter().find(|m| !path.is_empty() && m.container_path == path);
    let mut text = mount.and_then(|m| head(Path::new(&m.host_path))).unwrap_or_default();
    let policy = status.annotations.get(labels::MESSAGE_POLICY).map(String::as_str);
    if text.is_empty() && policy == Some("FallbackToLogsOnError") && status.exit_code != 0 {
        text = crate::logs::tail_text(Path::new(&status.log_path), MAX_LOG_LINES, MAX_LOG_MESSAGE).unwrap_or_default();
    }
    if text.is_empty() {
        return;
    }
    status.message = if status.message.is_empty() { text } else { format!("{}: {text}", status.message) };
}

fn head(path: &Path) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    // Upstream keeps the end of a long message.
    let start = size.saturating_sub(MAX_MESSAGE as u64);
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_MESSAGE as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
