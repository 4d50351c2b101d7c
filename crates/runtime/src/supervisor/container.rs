//! One container as the supervisor has it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use sys::cgroup::Group;

use super::now_ns;
use super::output::Output;
use crate::proto::{Phase, Run};
use crate::spec::{PidMode, Spec};

/// The file that a container's run is kept in.
pub const RUN_FILE: &str = "state.json";

/// A container that was started in this supervisor's life.
pub(super) struct Container {
    pub(super) spec: Spec,
    pub(super) run: Run,
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) group: Option<Group>,
    pub(super) output: Output,
    /// The writing end of stdin, or nothing.
    pub(super) stdin: Option<OwnedFd>,
    /// The terminal's master.
    pub(super) terminal: Option<OwnedFd>,
}

impl Container {
    pub(super) fn is_running(&self) -> bool {
        self.run.phase == Phase::Running
    }

    /// Takes note of the end of the first process; false while it goes on.
    pub(super) fn reap(&mut self) -> bool {
        let Some(pidfd) = &self.pidfd else { return false };
        let code = match sys::process::try_wait(pidfd.as_fd()) {
            Ok(None) => return false,
            Ok(Some(code)) => code,
            Err(_) => 255,
        };
        // In a PID namespace of its own the kernel has ended all others already.
        if self.spec.corten.pid != PidMode::Container
            && let Some(group) = &self.group
        {
            let _ = group.kill();
        }
        self.run.finished_at = now_ns();
        self.run.exit_code = code;
        self.run.oom_killed = self.group.as_ref().is_some_and(|g| g.oom_kills() > 0);
        self.run.phase = Phase::Exited;
        self.run.pid = 0;
        self.pidfd = None;
        self.stdin = None;
        true
    }

    /// Writes the run into the container's directory.
    pub(super) fn save(&self, dir: &Path) {
        if let Ok(text) = serde_json::to_vec(&self.run) {
            // The daemon has it over the socket as well; a full disk must not stop the pod.
            let _ = sys::fs::write_atomic(&dir.join(RUN_FILE), &text);
        }
    }
}
