//! In-place resize: a changed request or limit of a running pod is checked against the node, taken over, and carried out
//! by changing cgroups, or by restarting the container where its policy says so.
//!
//! `Worker::pod` always carries the *allocated* resources; what the API asks for and is not granted yet is kept in
//! `Worker::desired`.

use std::sync::Arc;
use std::time::Duration;

use informer::EventType;
use node_api::{ContainerState, ContainerStatus, LinuxResources};
use serde_json::json;

use super::{Done, Stage, Worker};
use crate::admit;
use crate::k8s::{Container, Kind, Pod, PodCondition, PodExt, is_sidecar};
use crate::pod::plan::KillReason;
use crate::spec::resources;

/// How soon a deferred resize is considered again.
const DEFERRED: Duration = Duration::from_secs(5);

/// How far a resize is.
#[derive(Debug, Default)]
pub(super) struct Resize {
    /// Not granted: reason and message.
    pending: Option<(String, String)>,
    /// Granted and not carried out: the error of the last try.
    in_progress: Option<Option<String>>,
    /// The pod's cgroup before.
    before: Option<LinuxResources>,
    /// The pod's cgroup still has room for what restarting containers had.
    roomy: bool,
    busy: bool,
    retry: super::Retry,
}

impl Resize {
    /// As a former kubelet left it.
    pub(super) fn found(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let told =
            status.and_then(|s| s.conditions.as_ref()).into_iter().flatten().any(|c| c.type_ == "PodResizeInProgress");
        let differs = pod.all_containers().any(|c| {
            let lists = status.map(|s| s.container_statuses.iter().chain(&s.init_container_statuses).flatten());
            let known =
                lists.into_iter().flatten().find(|s| s.name == c.name).and_then(|s| s.allocated_resources.as_ref());
            let wanted = c.resources.as_ref().and_then(|r| r.requests.as_ref());
            known.is_some() && wanted.is_some() && known != wanted
        });
        Self { in_progress: (told || differs).then_some(None), ..Self::default() }
    }

    /// The conditions that tell of it.
    pub(super) fn conditions(&self, generation: Option<i64>) -> Vec<PodCondition> {
        let one = |kind: &str, reason: Option<String>, message: Option<String>| PodCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason,
            message,
            observed_generation: generation,
            ..PodCondition::default()
        };
        let pending =
            self.pending.clone().map(|(reason, message)| one("PodResizePending", Some(reason), Some(message)));
        let progress = self
            .in_progress
            .clone()
            .map(|error| one("PodResizeInProgress", error.as_ref().map(|_| "Error".to_owned()), error));
        pending.into_iter().chain(progress).collect()
    }
}

fn same(a: &Pod, b: &Pod) -> bool {
    let list = |pod: &Pod| pod.all_containers().map(|c| (c.name.clone(), c.resources.clone())).collect::<Vec<_>>();
    list(a) == list(b) && a.spec().resources == b.spec().resources
}

/// The new object with the resources of the former one.
fn with_resources_of(desired: &Pod, allocated: &Pod) -> Pod {
    let mut pod = desired.clone();
    let spec = pod.spec.get_or_insert_default();
    spec.resources = allocated.spec().resources.clone();
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(old) = allocated.all_containers().find(|c| c.name == container.name) {
            container.resources.clone_from(&old.resources);
        }
    }
    pod
}

/// What containers are about to get, for events.
fn describe(pod: &Pod) -> String {
    let of =
        |list: &[Container]| list.iter().map(|c| json!({"name": c.name, "resources": c.resources})).collect::<Vec<_>>();
    let mut value = json!({"containers": of(&pod.spec().containers), "generation": pod.generation()});
    if !pod.init_containers().is_empty() {
        value["initContainers"] = of(pod.init_containers()).into();
    }
    value.to_string()
}

/// Whether two settings differ in what a resize changes.
fn differ(a: &LinuxResources, b: &LinuxResources) -> (bool, bool) {
    ((a.cpu_shares, a.cpu_quota) != (b.cpu_shares, b.cpu_quota), a.memory_limit_bytes != b.memory_limit_bytes)
}

impl Worker {
    /// Takes over a new object, with the resources it may have.
    pub(super) fn allocate(&mut self, desired: Arc<Pod>) -> Arc<Pod> {
        self.desired = desired.clone();
        if self.stage != Stage::Active || same(&self.pod, &desired) {
            self.resize.pending = None;
            return desired;
        }
        let mut others = self.shared.active_pods();
        others.remove(&self.handle.uid);
        match admit::resize(&desired, &self.shared.allocatable(), &others) {
            None => {
                self.resize.pending = None;
                self.resize.in_progress = Some(None);
                self.resize.before.get_or_insert_with(|| resources::pod(&self.pod));
                let text = format!("Pod resize started: {}", describe(&desired));
                self.shared.events.pod(&desired, EventType::Normal, "ResizeStarted", text);
                desired
            }
            Some((reason, message)) => {
                let new = Some((reason.to_owned(), message.clone()));
                if self.resize.pending != new {
                    let event = if reason == "Infeasible" { "ResizeInfeasible" } else { "ResizeDeferred" };
                    let text = format!("Pod resize {reason}: {}, message: {message}", describe(&desired));
                    self.shared.events.pod(&desired, EventType::Warning, event, text);
                    self.resize.pending = new;
                }
                Arc::new(with_resources_of(&desired, &self.pod))
            }
        }
    }

    /// Carries out what was granted.
    pub(super) fn step_resize(&mut self) {
        if self.resize.pending.as_ref().is_some_and(|(reason, _)| reason == "Deferred") {
            self.pod = self.allocate(self.desired.clone());
            self.wake_by(rt::time::now().checked_add(DEFERRED).unwrap_or(rt::time::Timestamp::MAX));
        }
        let now = rt::time::now();
        if self.resize.in_progress.is_none() || self.resize.busy || self.starting.is_some() {
            return;
        }
        if !self.resize.retry.due(now) {
            self.resize.retry.at.into_iter().for_each(|at| self.wake_by(at));
            return;
        }
        let (mut updates, mut restarts, mut settled) = (Vec::new(), Vec::new(), true);
        let steady = |c: &Container| is_sidecar(c) || self.pod.spec().containers.iter().any(|m| m.name == c.name);
        for container in self.pod.all_containers() {
            let running = self.observed.latest(&container.name).filter(|s| s.state == ContainerState::Running);
            let Some(status) = running.filter(|s| !self.killing.contains(&s.id)) else {
                // An init container that has ended needs nothing, and one that comes later starts with the new resources.
                settled &= !steady(container);
                continue;
            };
            let wanted = resources::container(&self.pod, container, self.shared.machine.memory);
            match action(container, status, &wanted) {
                None => {}
                Some(true) => restarts.push((status.id.clone(), container.name.clone())),
                Some(false) => updates.push((status.id.clone(), wanted)),
            }
        }
        settled &= updates.is_empty() && restarts.is_empty();
        if settled && std::mem::take(&mut self.resize.roomy) {
            self.update(updates, false);
            return;
        }
        if settled {
            self.resize.in_progress = None;
            self.resize.before = None;
            let text = format!("Pod resize completed: {}", describe(&self.pod));
            self.shared.events.pod(&self.pod, EventType::Normal, "ResizeCompleted", text);
            return;
        }
        if !updates.is_empty() || !restarts.is_empty() {
            self.update(updates, !restarts.is_empty());
        }
        for (id, name) in restarts {
            let message = format!("Container {name} resize requires restart, will be restarted");
            self.kill(id, name, message, KillReason::Other);
        }
    }

    fn update(&mut self, updates: Vec<(String, LinuxResources)>, restarts: bool) {
        let Some(sandbox) = self.observed.ready_sandbox().map(|s| s.id.clone()) else { return };
        self.resize.busy = true;
        // A container that is about to restart still has its old limits, which the pod's must not be below.
        self.resize.roomy |= restarts;
        let roomy = self.resize.roomy;
        let runtime = self.shared.runtime.clone();
        let after = resources::pod(&self.pod);
        let before = self.resize.before.clone().unwrap_or_else(|| after.clone());
        // While containers change one by one, the pod must have room for the old and the new.
        let wide = |a: i64, b: i64| if a == 0 || b == 0 { 0 } else { a.max(b) };
        let during = LinuxResources {
            cpu_shares: before.cpu_shares.max(after.cpu_shares),
            cpu_quota: wide(before.cpu_quota, after.cpu_quota),
            memory_limit_bytes: wide(before.memory_limit_bytes, after.memory_limit_bytes),
            ..after.clone()
        };
        let (cgroups, pod) = (self.shared.cgroups.clone(), self.pod.clone());
        // The pod's group is ours; runtimes that keep something of their own for the pod are told.
        let whole = async move |limits: LinuxResources| {
            runtime.update_pod_sandbox_resources(&sandbox, None, Some(&limits)).await.map_err(|e| e.chain())?;
            let (cgroups, pod) = (cgroups.clone(), pod.clone());
            let set = rt::spawn_blocking(move || cgroups.set(&pod, pod.uid(), &limits)).await;
            set.unwrap_or_else(|error| Err(error.to_string()))
        };
        let runtime = self.shared.runtime.clone();
        self.push(async move {
            let work = async {
                whole(during).await?;
                for (id, wanted) in &updates {
                    runtime.update_container_resources(id, wanted).await.map_err(|e| e.chain())?;
                }
                if roomy { Ok(()) } else { whole(after).await }
            };
            Done::Resized(work.await)
        });
    }

    pub(super) fn resized(&mut self, result: Result<(), String>) {
        (self.resize.busy, self.dirty) = (false, true);
        match result {
            Ok(()) => self.resize.retry = super::Retry::default(),
            Err(error) => {
                let text = format!("Pod resize error: {}, error: {error}", describe(&self.pod));
                self.shared.events.pod(&self.pod, EventType::Warning, "ResizeError", text);
                self.resize.in_progress = Some(Some(error));
                self.resize.retry.fail(Duration::from_secs(1), Duration::from_secs(10));
            }
        }
    }
}

/// What a container needs: nothing, an update (`false`), or a restart (`true`).
fn action(container: &Container, status: &ContainerStatus, wanted: &LinuxResources) -> Option<bool> {
    let (cpu, memory) = differ(&status.resources, wanted);
    // Requests of memory have no cgroup setting; their change is nothing to carry out.
    if !cpu && !memory {
        return None;
    }
    let restarts = |name: &str| {
        let mut policies = container.resize_policy.iter().flatten();
        policies.any(|p| p.resource_name == name && p.restart_policy == "RestartContainer")
    };
    Some((cpu && restarts("cpu")) || (memory && restarts("memory")))
}
