//! One look at a pod: what is planned becomes operations.

use std::time::Duration;

use informer::EventType;
use node_api::ContainerState;
use rt::time::Timestamp;

use super::{Done, Failure, Stage, Worker};
use crate::k8s::{Container, Kind, PodExt};
use crate::pod::labels;
use crate::pod::plan::{self, KillReason};
use crate::pod::status::Verdict;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(10);

impl Worker {
    /// Gives whether the worker's job is done.
    pub(super) fn step(&mut self) -> bool {
        if self.stage == Stage::Active {
            self.check_end();
        }
        match self.stage {
            Stage::Active => self.step_active(),
            Stage::Terminating => self.step_terminating(),
            Stage::Cleaning => {}
            Stage::Terminated => self.step_terminated(),
            Stage::Removing => return self.gone && self.ops.is_empty(),
        }
        self.stage == Stage::Removing && self.ops.is_empty()
    }

    /// Whether the pod must end: deleted, rejected, over its deadline, or done by itself earlier.
    fn check_end(&mut self) {
        let spec = self.pod.spec();
        if self.verdict.is_none()
            && let Some(seconds) = spec.active_deadline_seconds
        {
            let deadline = self.started_at.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
            let deadline = deadline.unwrap_or(Timestamp::MAX);
            if rt::time::now() >= deadline {
                let message = "Pod was active on the node longer than the specified deadline".to_owned();
                self.shared.events.pod(&self.pod, EventType::Normal, "DeadlineExceeded", message.clone());
                self.verdict =
                    Some(Verdict { phase: "Failed", reason: "DeadlineExceeded".to_owned(), message, rejected: false });
            } else {
                self.wake_by(deadline);
            }
        }
        if self.pod.is_deleting() || self.gone || self.verdict.is_some() || self.pod.is_terminal() {
            self.terminate();
        }
    }

    /// Begins to end the pod.
    pub(super) fn terminate(&mut self) {
        if self.stage == Stage::Active {
            tracing::debug!(pod = self.pod.name(), ns = self.pod.namespace(), "pod ends");
            self.stage = Stage::Terminating;
            self.terminating_since = Some(rt::time::now());
            self.cancel.cancel();
            self.waiting.clear();
        }
    }

    fn step_active(&mut self) {
        let now = rt::time::now();
        self.step_volumes(now);
        let plan = plan::plan(&self.pod, &self.observed, &*self.shared.probes);
        if self.sandbox_busy {
            return;
        }
        if plan.kill_pod && plan.create_sandbox.is_none() {
            // Every container has ended for good.
            if self.starting.is_none() && self.killing.is_empty() {
                self.terminate();
                self.step_terminating();
            }
            return;
        }
        if let Some(attempt) = plan.create_sandbox {
            self.step_sandbox(attempt, now);
            return;
        }
        for kill in plan.kill {
            if !self.killing.contains(&kill.id) {
                self.kill(kill.id, kill.name, kill.message, kill.reason);
            }
        }
        self.step_start(&plan.start, now);
        self.step_resize();
        self.collect_garbage();
    }

    fn step_sandbox(&mut self, attempt: u32, now: Timestamp) {
        if self.starting.is_some() || !self.killing.is_empty() {
            return;
        }
        let running: Vec<_> = self
            .observed
            .containers
            .iter()
            .filter(|c| c.state == ContainerState::Running)
            .map(|c| (c.id.clone(), c.metadata.name.clone()))
            .collect();
        if !running.is_empty() {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.shared.events.pod(&self.pod, EventType::Normal, "SandboxChanged", text);
            for (id, name) in running {
                self.kill(id, name, String::new(), KillReason::Other);
            }
            return;
        }
        if !self.sandbox_retry.due(now) {
            self.sandbox_retry.at.into_iter().for_each(|at| self.wake_by(at));
            return;
        }
        if attempt > 0 && self.sandbox_retry.failures == 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.";
            self.shared.events.pod(&self.pod, EventType::Normal, "SandboxChanged", text);
        }
        self.create_sandbox(attempt);
    }

    fn step_start(&mut self, starts: &[plan::Start], now: Timestamp) {
        if self.starting.is_some() {
            return;
        }
        for start in starts {
            let Some(container) = plan::container(&self.pod, *start) else { continue };
            let killing = self.observed.of_name(&container.name).any(|c| self.killing.contains(&c.id));
            if killing || !self.may_start(&container, now) {
                continue;
            }
            if self.volumes.mounted.is_none() {
                // The volumes' operation rings when it is done.
                return;
            }
            self.start(*start, container);
            return;
        }
    }

    /// Whether no back-off holds the container; otherwise the reason is kept and the end of it awaited.
    fn may_start(&mut self, container: &Container, now: Timestamp) -> bool {
        let name = &container.name;
        if let Some(retry) = self.retries.get(name).filter(|r| !r.due(now)) {
            let at = retry.at;
            at.into_iter().for_each(|at| self.wake_by(at));
            self.image_backoff_begins(container, now);
            return false;
        }
        let key = crash_key(container);
        let Some(failed) = self.failed_at(container) else { return true };
        if let Some((until, delay)) = self.crash.waiting(&key, failed, now) {
            let text = format!(
                "back-off {} restarting failed container={name} pod={}",
                go_duration(delay),
                self.pod.display()
            );
            let known =
                self.waiting.get(name).is_some_and(|(reason, old)| reason == "CrashLoopBackOff" && *old == text);
            if !known {
                let event = format!("Back-off restarting failed container {name} in pod {}", self.pod.display());
                self.shared.events.container(&self.pod, name, EventType::Warning, "BackOff", event);
                self.waiting.insert(name.clone(), ("CrashLoopBackOff".to_owned(), text));
            }
            self.wake_by(until);
            return false;
        }
        true
    }

    /// A failed pull shows as `ErrImagePull` for a moment and then as `ImagePullBackOff`.
    fn image_backoff_begins(&mut self, container: &Container, now: Timestamp) {
        let Some((reason, text)) = self.waiting.get(&container.name).cloned() else { return };
        if !matches!(reason.as_str(), "ErrImagePull" | "RegistryUnavailable") {
            return;
        }
        let image = container.image.clone().unwrap_or_default();
        let since = self.retries.get(&container.name).and_then(|r| r.at);
        let shown_until = now.checked_add(Duration::from_secs(1)).unwrap_or(now);
        if since.is_some_and(|at| at <= shown_until) {
            return;
        }
        let back_off = format!("Back-off pulling image {image:?}");
        self.shared.events.container(&self.pod, &container.name, EventType::Normal, "BackOff", back_off.clone());
        self.waiting
            .insert(container.name.clone(), ("ImagePullBackOff".to_owned(), format!("{back_off}: {reason}: {text}")));
    }

    /// Counts a restart against the crash back-off: called as the container is about to be started.
    pub(super) fn count_restart(&mut self, container: &Container) {
        if let Some(failed) = self.failed_at(container) {
            self.crash.next(&crash_key(container), failed, rt::time::now());
        }
    }

    /// When the container failed, as far as the crash back-off is concerned. One that was ended from here, by a probe,
    /// starts again at once if the run before it has served its back-off: as upstream, where the same sync kills and
    /// starts, and sees only that run.
    fn failed_at(&self, container: &Container) -> Option<Timestamp> {
        let time = |s: &node_api::ContainerStatus| Timestamp::from_nanosecond(i128::from(s.finished_at)).ok();
        let mut runs = self.observed.of_name(&container.name);
        let latest = runs.next().filter(|s| s.state == ContainerState::Exited)?;
        let finished = time(latest).unwrap_or_else(rt::time::now);
        if !self.ended.contains(&latest.id) {
            return Some(finished);
        }
        let before = runs.find(|s| s.state == ContainerState::Exited).and_then(time)?;
        let served = self.crash.waiting(&crash_key(container), before, finished).is_none();
        Some(if served { before } else { finished })
    }

    pub(super) fn start_done(&mut self, name: String, result: Result<(), Failure>) {
        match result {
            Ok(()) => {
                self.waiting.remove(&name);
                self.retries.remove(&name);
            }
            Err(failure) => {
                if self.stage != Stage::Active {
                    return;
                }
                self.waiting.insert(name.clone(), failure.waiting);
                let retry = self.retries.entry(name).or_default();
                match failure.retry_at {
                    Some(at) => retry.at = Some(at),
                    None => {
                        retry.fail(RETRY_FIRST, RETRY_MOST);
                    }
                }
            }
        }
    }

    /// Old runs of containers: two of each name are kept, for the state and the last state.
    fn collect_garbage(&mut self) {
        let mut seen: rt::HashMap<&str, usize> = rt::HashMap::default();
        let mut old = Vec::new();
        for status in &self.observed.containers {
            let count = seen.entry(&status.metadata.name).or_default();
            *count += 1;
            // One that was made and never started is of no use once there is a newer one.
            let over = match status.state {
                ContainerState::Exited => *count > 2,
                ContainerState::Created => *count > 1,
                _ => false,
            };
            if over && !self.killing.contains(&status.id) {
                old.push(status.id.clone());
            }
        }
        let used = |id: &str| self.observed.containers.iter().any(|c| c.pod_sandbox_id == id);
        let boxes = self.observed.sandboxes.iter().skip(1).filter(|s| s.state == node_api::PodSandboxState::NotReady);
        let boxes: Vec<String> = boxes.filter(|s| !used(&s.id)).map(|s| s.id.clone()).collect();
        if old.is_empty() && boxes.is_empty() {
            return;
        }
        let gone = self.observed.containers.iter().filter(|c| old.contains(&c.id));
        self.unlink_logs(gone.map(|c| (c.metadata.name.as_str(), c.id.as_str())));
        let runtime = self.shared.runtime.clone();
        for id in &old {
            self.killing.insert(id.clone());
        }
        self.push(async move {
            for id in &boxes {
                let _ = runtime.remove_pod_sandbox(id).await;
            }
            let mut last = String::new();
            for id in old {
                // What cannot be removed now is found again at the next look.
                let _ = runtime.remove_container(&id).await;
                last = id;
            }
            Done::Killed { id: last }
        });
    }
}

/// What the crash back-off counts by: a changed container starts afresh.
fn crash_key(container: &Container) -> String {
    format!("{}/{}", container.name, labels::hash(container))
}

/// A duration as Go prints it.
#[must_use]
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}
