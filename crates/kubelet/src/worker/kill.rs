//! Ending containers: grace, preStop, order.

use std::sync::Arc;
use std::time::Duration;

use informer::EventType;
use node_api::{ContainerState, ContainerStatus};
use rt::Shutdown;
use rt::sync::watch;

use super::{Done, Worker, hooks};
use crate::k8s::core::{Lifecycle, LifecycleHandler};
use crate::k8s::{Container, Kind, Pod, PodExt, is_sidecar};
use crate::pod::labels;
use crate::pod::plan::KillReason;
use crate::shared::Shared;

/// The least time a container gets between TERM and KILL.
const MIN_GRACE: i64 = 2;

/// One container to end.
pub(super) struct Kill {
    pub id: String,
    pub container: Container,
    pub message: String,
    pub grace: i64,
    /// Those that must have ended first.
    pub after: Vec<watch::Receiver<bool>>,
    /// Set when this one has ended.
    pub ended: watch::Sender<bool>,
    /// Ends the wait, because a shorter grace holds now.
    pub shorten: Shutdown,
    pub ip: String,
    pub quiet: bool,
}

impl Worker {
    /// Ends one container of a pod that goes on.
    pub(super) fn kill(&mut self, id: String, name: String, message: String, reason: KillReason) {
        let Some(container) = self.definition(&id, &name) else { return };
        let grace = grace(&self.pod, &container, reason);
        self.push_kill(Kill {
            id,
            container,
            message,
            grace,
            after: Vec::new(),
            ended: watch::Sender::new(false),
            shorten: self.shared.shutdown.child(),
            ip: String::new(),
            quiet: false,
        });
    }

    fn push_kill(&mut self, mut kill: Kill) {
        self.killing.insert(kill.id.clone());
        self.ended.insert(kill.id.clone());
        kill.ip = self.shared.facts(&self.pod, &self.observed).pod_ips.first().cloned().unwrap_or_default();
        let (shared, pod) = (self.shared.clone(), self.pod.clone());
        self.push(async move {
            let (id, shorten) = (kill.id.clone(), kill.shorten.clone());
            // On a shorter grace the wait is dropped; the worker kills again with what is left.
            shorten.run(run(&shared, &pod, kill)).await;
            Done::Killed { id }
        });
    }

    /// The container's definition; where the spec no longer has it, what its annotations tell.
    fn definition(&self, id: &str, name: &str) -> Option<Container> {
        if let Some(container) = self.pod.all_containers().find(|c| c.name == name) {
            return Some(container.clone());
        }
        let status = self.observed.containers.iter().find(|c| c.id == id)?;
        Some(restored(status))
    }

    /// Ends all containers, sidecars after the others and in reverse order; then takes the pod down.
    pub(super) fn step_terminating(&mut self) {
        if self.sandbox_busy || self.starting.is_some() {
            // Neither can be interrupted half-way; both are short. Deletion has cancelled any pull.
            return;
        }
        let now = rt::time::now();
        let grace = self.total_grace();
        if self.grace.is_some_and(|before| grace < before) {
            self.shorten.cancel();
            self.shorten = self.shared.shutdown.child();
        }
        self.grace = Some(self.grace.map_or(grace, |before| before.min(grace)));
        let since = self.terminating_since.unwrap_or(now);
        let spent = i64::try_from(rt::time::between(since, now).as_secs()).unwrap_or(i64::MAX);
        let running: Vec<Arc<ContainerStatus>> = self
            .observed
            .containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
            .cloned()
            .collect();
        if running.is_empty() && self.killing.is_empty() && !self.dirty {
            if self.cleanup_retry.due(now) {
                self.clean();
            } else {
                self.cleanup_retry.at.into_iter().for_each(|at| self.wake_by(at));
            }
            return;
        }
        let fresh: Vec<_> = running.into_iter().filter(|c| !self.killing.contains(&c.id)).collect();
        self.kill_in_order(fresh, (grace - spent).max(0));
    }

    fn kill_in_order(&mut self, statuses: Vec<Arc<ContainerStatus>>, grace: i64) {
        let mut kills: Vec<(usize, Kill)> = Vec::new();
        for status in statuses {
            let Some(container) = self.definition(&status.id, &status.metadata.name) else { continue };
            let position = self.pod.init_containers().iter().position(|c| c.name == container.name && is_sidecar(c));
            // Rank 0 goes first; the last sidecar of the spec has rank 1.
            let rank = position.map_or(0, |p| self.pod.init_containers().len() - p);
            let kill = Kill {
                id: status.id.clone(),
                container,
                message: String::new(),
                grace,
                after: Vec::new(),
                ended: watch::Sender::new(false),
                shorten: self.shorten.clone(),
                ip: String::new(),
                quiet: false,
            };
            kills.push((rank, kill));
        }
        let ends: Vec<(usize, watch::Receiver<bool>)> =
            kills.iter().map(|(rank, k)| (*rank, k.ended.subscribe())).collect();
        for (rank, mut kill) in kills {
            kill.after = ends.iter().filter(|(other, _)| *other < rank).map(|(_, end)| end.clone()).collect();
            self.push_kill(kill);
        }
    }

    /// The grace period of the pod's end as it stands now.
    fn total_grace(&self) -> i64 {
        let own = self.pod.spec().termination_grace_period_seconds.unwrap_or(30);
        let grace =
            if self.pod.is_deleting() { self.pod.metadata.deletion_grace_period_seconds.unwrap_or(own) } else { own };
        grace.max(1)
    }
}

fn grace(pod: &Pod, container: &Container, reason: KillReason) -> i64 {
    let of_pod = pod.spec().termination_grace_period_seconds.unwrap_or(30);
    let probe = match reason {
        KillReason::Liveness => container.liveness_probe.as_ref(),
        KillReason::Startup => container.startup_probe.as_ref(),
        KillReason::Other => None,
    };
    probe.and_then(|p| p.termination_grace_period_seconds).unwrap_or(of_pod)
}

/// Ends a container: event, preStop, turn, TERM, KILL.
pub(super) async fn run(shared: &Shared, pod: &Pod, kill: Kill) {
    let name = &kill.container.name;
    if !kill.quiet {
        let text = if kill.message.is_empty() { format!("Stopping container {name}") } else { kill.message.clone() };
        shared.events.container(pod, name, EventType::Normal, "Killing", text);
    }
    let start = rt::time::now();
    let left = |grace: i64| grace - i64::try_from(rt::time::since(start).as_secs()).unwrap_or(i64::MAX);
    let hook = kill.container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    if let Some(hook) = hook.filter(|_| kill.grace > 0) {
        let limit = Duration::from_secs(kill.grace.unsigned_abs());
        match rt::time::timeout(limit, hooks::run(shared, &kill.id, &kill.container, &kill.ip, hook)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(pod = pod.metadata.name, container = name, error, "preStop hook failed");
                shared.events.container(pod, name, EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
            }
            Err(_) => tracing::debug!(pod = pod.metadata.name, container = name, "preStop hook did not end in time"),
        }
    }
    for mut before in kill.after {
        let limit = Duration::from_secs(left(kill.grace).max(0).unsigned_abs());
        let _ = rt::time::timeout(limit, before.wait_for(|ended| *ended)).await;
    }
    let grace = left(kill.grace).max(MIN_GRACE);
    let result = shared.runtime.stop_container(&kill.id, Duration::from_secs(grace.unsigned_abs())).await;
    if let Err(error) = result.as_ref().or_else(|e| if e.is_not_found() { Ok(&()) } else { Err(e) }) {
        tracing::warn!(
            pod = pod.metadata.name,
            container = name,
            error = error.chain(),
            "cannot stop a container; trying again"
        );
        // The worker sees that it still runs; the pause keeps a broken runtime from being asked in a loop.
        rt::time::sleep(Duration::from_secs(1)).await;
    }
    kill.ended.send_replace(true);
}

/// What a container's annotations tell of its definition.
pub(super) fn restored(status: &ContainerStatus) -> Container {
    let read = |key: &str| status.annotations.get(key).cloned();
    let pre_stop: Option<LifecycleHandler> = read(labels::PRE_STOP).and_then(|t| serde_json::from_str(&t).ok());
    Container {
        name: status.metadata.name.clone(),
        lifecycle: pre_stop.map(|hook| Lifecycle { pre_stop: Some(hook), ..Lifecycle::default() }),
        ports: read(labels::PORTS).and_then(|t| serde_json::from_str(&t).ok()),
        termination_message_path: read(labels::MESSAGE_PATH),
        ..Container::default()
    }
}
