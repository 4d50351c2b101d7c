//! Starting supervisors, listening to them, and noticing their end.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use node_api::{ContainerEventType, Error, Result};

use super::link::Link;
use super::records::{ContainerEntry, Pod};
use super::{Inner, now_ns};
use crate::proto::{Message, Op, Phase, Run};

/// How long a new supervisor may take to set its pod up.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The exit code of a container whose end nobody saw, as containerd has it.
const UNKNOWN_EXIT: i32 = 255;

impl Inner {
    /// Starts the supervisor of a pod whose directory is ready.
    pub(super) async fn start_supervisor(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<()> {
        let (ours, theirs) = sys::fdpass::pair().map_err(super::sys_error)?;
        let log = std::fs::File::create(pod.dir.join("supervisor.log"))
            .map_err(|e| Error::internal("make the supervisor's log", e))?;
        let program = &self.options.supervisor;
        let mut child = tokio::process::Command::new(program)
            .arg0("corten-supervisor")
            .arg(&pod.dir)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(log)
            .env_clear()
            .current_dir("/")
            .spawn()
            .map_err(|e| Error::internal(format!("start the supervisor {}", program.display()), e))?;
        // Reaped whenever it ends; it does not end with the daemon.
        tokio::spawn(async move { child.wait().await });
        let link = Link::new(ours).map_err(|e| Error::internal("talk to the supervisor", e))?;
        match tokio::time::timeout(START_LIMIT, link.receive()).await {
            Ok(Some(Message::Ready { error: None, .. })) => {}
            Ok(Some(Message::Ready { error: Some(message), .. })) => {
                return Err(Error::Container { context: format!("set up the pod: {message}"), source: None });
            }
            Ok(_) => {
                let said = std::fs::read_to_string(pod.dir.join("supervisor.log")).unwrap_or_default();
                let context = format!("the pod's supervisor ended at its start: {}", said.trim());
                return Err(Error::Container { context, source: None });
            }
            Err(_) => return Err(Error::DeadlineExceeded("the pod's supervisor did not get ready".to_owned())),
        }
        self.listen(pod, link);
        Ok(())
    }

    /// Connects to a supervisor that an earlier daemon started.
    pub(super) async fn reconnect(self: &Arc<Self>, pod: &Arc<Pod>, socket: OwnedFd) -> Result<()> {
        let link = Link::new(socket).map_err(|e| Error::internal("talk to the supervisor", e))?;
        self.listen(pod, Arc::clone(&link));
        let (answer, _) = link.call(Op::Status, &[]).await?;
        for (id, run) in answer.containers {
            let known = self.containers.lock().get(&id).cloned();
            if known.is_some_and(|container| *container.run.borrow() != run) {
                self.container_changed(&id, run);
            }
        }
        Ok(())
    }

    fn listen(self: &Arc<Self>, pod: &Arc<Pod>, link: Arc<Link>) {
        pod.link.send_replace(Some(Arc::clone(&link)));
        let (inner, pod) = (Arc::downgrade(self), Arc::clone(pod));
        tokio::spawn(async move {
            while let Some(message) = link.receive().await {
                let Some(inner) = inner.upgrade() else { return };
                if let Message::Container { container, run } = message {
                    inner.container_changed(&container, run);
                }
            }
            let Some(inner) = inner.upgrade() else { return };
            inner.link_lost(&pod).await;
        });
    }

    /// The connection ended: mostly since the supervisor did; but one that could not get rid of its news cuts a
    /// connection, too, and is still there.
    async fn link_lost(self: &Arc<Self>, pod: &Arc<Pod>) {
        let path = pod.dir.join(crate::supervisor::SOCKET_FILE);
        if let Ok(socket) = sys::fdpass::connect(&path)
            && Box::pin(self.reconnect(pod, socket)).await.is_ok()
        {
            tracing::warn!(pod = pod.id, "the connection to a supervisor was made anew");
            return;
        }
        pod.link.send_replace(None);
        self.supervisor_gone(pod);
    }

    fn container_changed(&self, id: &str, run: Run) {
        let found = self.containers.lock().get(id).cloned();
        let Some(container) = found else { return };
        let phase = run.phase;
        container.run.send_replace(run);
        match phase {
            Phase::Created => {}
            Phase::Running => self.emit_container(&container, ContainerEventType::Started),
            Phase::Exited => self.emit_container(&container, ContainerEventType::Stopped),
        }
    }

    /// The supervisor ended, by request or not: nothing of the pod may be left running, and nobody else will tell
    /// how its containers ended.
    fn supervisor_gone(&self, pod: &Arc<Pod>) {
        for container in self.containers_of(&pod.id) {
            if container.phase() == Phase::Running {
                self.lose(&container);
                self.emit_container(&container, ContainerEventType::Stopped);
            }
        }
        self.emit(pod, &pod.id, ContainerEventType::Stopped);
    }

    /// Records the end of a container that nobody watched.
    pub(super) fn lose(&self, container: &ContainerEntry) {
        let path = container.dir().join("state.json");
        let saved = super::records::read_json::<Run>(&path).ok().filter(|run| run.phase == Phase::Exited);
        if saved.is_none() {
            self.kill_group(&container.record.cgroup);
        }
        let run = saved.unwrap_or_else(|| Run {
            phase: Phase::Exited,
            finished_at: now_ns(),
            exit_code: UNKNOWN_EXIT,
            reason: node_api::REASON_UNKNOWN.to_owned(),
            message: "the pod's supervisor ended".to_owned(),
            pid: 0,
            ..container.run.borrow().clone()
        });
        // Best effort: it is found the same way again.
        let _ = super::records::write_json(&path, &run);
        container.run.send_replace(run);
    }

    /// Kills whoever is left in a group.
    pub(super) fn kill_group(&self, cgroup: &str) {
        if cgroup.is_empty() {
            return;
        }
        let group = self.hierarchies.group(Path::new(cgroup));
        if group.exists()
            && let Err(error) = group.kill()
        {
            tracing::warn!(cgroup, error = error.line(), "leftover processes could not be killed");
        }
    }

    /// Kills whoever is left in a group, and removes it. Blocks for a moment.
    pub(super) fn remove_group(&self, cgroup: &str) {
        if cgroup.is_empty() {
            return;
        }
        let group = self.hierarchies.group(Path::new(cgroup));
        if !group.exists() {
            return;
        }
        self.kill_group(cgroup);
        let _ = group.wait_empty(Duration::from_secs(2));
        if let Err(error) = group.remove() {
            tracing::warn!(cgroup, error = error.line(), "a cgroup could not be removed");
        }
    }
}
