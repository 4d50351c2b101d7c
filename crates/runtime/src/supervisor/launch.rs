//! The parent's side of starting a process: pipes, groups, the clone, and waiting for the program to be executed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use sys::cgroup::{Group, Joiner};
use sys::process::{CloneFlags, Fork};

use super::child::{self, Setup};
use super::log::Log;
use super::output::Output;
use super::{Supervisor, container::Container, now_ns};
use crate::proto::{Failure, Phase, Run};
use crate::spec::{PidMode, Process, Spec};

/// The standard streams of a new process.
#[derive(Default)]
pub(super) struct Stdio {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// A process whose program runs.
pub(super) struct Launched {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// The master of its terminal.
    pub(super) terminal: Option<OwnedFd>,
}

impl Supervisor {
    /// Runs a container's spec. The error is what the user reads.
    pub(super) fn start(&mut self, id: &str) -> Result<Run, Failure> {
        if self.containers.get(id).is_some_and(|c| c.run.phase != Phase::Created) {
            return Err(Failure::state(format!("container {id} was started already")));
        }
        let dir = self.container_dir(id);
        let spec = self.read_spec(id)?;
        let started = self.start_spec(id, &dir, &spec);
        let (mut container, result) = match started {
            Ok(container) => (container, Ok(())),
            Err(message) => (failed(&spec, &message), Err(message)),
        };
        container.save(&dir);
        let run = container.run.clone();
        // What is needed no more, for months: an exec reads it again.
        container.spec = Spec { corten: container.spec.corten, ..Spec::default() };
        self.containers.insert(id.to_owned(), container);
        result.map(|()| run).map_err(Failure::other)
    }

    fn read_spec(&self, id: &str) -> Result<Spec, Failure> {
        let path = self.container_dir(id).join("spec.json");
        let text = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Failure::not_found(id),
            _ => Failure::other(format!("read {}: {e}", path.display())),
        })?;
        serde_json::from_slice(&text).map_err(|e| Failure::other(format!("read {}: {e}", path.display())))
    }

    fn start_spec(&self, id: &str, dir: &Path, spec: &Spec) -> Result<Container, String> {
        let group = self.make_group(spec)?;
        let launched = self.launch_first(id, dir, spec, &group);
        match launched {
            Ok(container) => Ok(Container { group: Some(group), ..container }),
            Err(message) => {
                let _ = group.kill();
                let _ = group.wait_empty(std::time::Duration::from_millis(200));
                let _ = group.remove();
                Err(message)
            }
        }
    }

    fn make_group(&self, spec: &Spec) -> Result<Group, String> {
        let group = self.hierarchies.group(&spec.linux.cgroups_path);
        group.create().map_err(|e| e.line())?;
        group.set(&spec.linux.resources.to_sys()).map_err(|e| e.line())?;
        Ok(group)
    }

    fn launch_first(&self, id: &str, dir: &Path, spec: &Spec, group: &Group) -> Result<Container, String> {
        let log = Log::open(&spec.corten.log_path)
            .map_err(|e| format!("open log {}: {e}", spec.corten.log_path.display()))?;
        let (mut theirs, mut ours) = (Stdio::default(), Stdio::default());
        if !spec.process.terminal {
            if spec.corten.stdin {
                let (read, write) = pipe()?;
                (theirs.stdin, ours.stdin) = (Some(read), Some(write));
            }
            let (read, write) = pipe()?;
            (ours.stdout, theirs.stdout) = (Some(read), Some(write));
            let (read, write) = pipe()?;
            (ours.stderr, theirs.stderr) = (Some(read), Some(write));
        }
        let setup = Setup::first(dir, spec, group)?;
        let launched = self.launch(id, &spec.corten.pid, setup, theirs, Some(group))?;
        let terminal = launched.terminal;
        let (stdin, stdout) = match &terminal {
            Some(master) => (None, Some(rustix::io::dup(master).map_err(|e| format!("dup: {e}"))?)),
            None => (ours.stdin, ours.stdout),
        };
        let run = Run { phase: Phase::Running, started_at: now_ns(), pid: launched.pid, ..Run::default() };
        let output = Output::new(log, stdout, ours.stderr);
        let pidfd = Some(launched.pidfd);
        Ok(Container { spec: spec.clone(), run, pidfd, group: None, output, stdin, terminal })
    }

    /// Runs a further process in a container.
    pub(super) fn launch_exec(
        &mut self,
        id: &str,
        args: Vec<String>,
        terminal: bool,
        stdio: Stdio,
    ) -> Result<Launched, Failure> {
        let container = self.containers.get(id).ok_or_else(|| Failure::not_found(id))?;
        let Some(pidfd) = &container.pidfd else {
            return Err(Failure::state(format!("container {id} is not running")));
        };
        // Read again rather than kept: environments can be long, and execs are rare.
        let spec = self.read_spec(id)?;
        let mut process = Process { args, terminal, ..spec.process };
        if terminal && !process.env.iter().any(|e| e.starts_with("TERM=")) {
            process.env.push("TERM=xterm".to_owned());
        }
        let setup = Setup::exec(pidfd.as_fd(), process, &spec.corten.seccomp).map_err(Failure::other)?;
        let target = PidMode::Target(id.to_owned());
        self.launch(id, &target, setup, stdio, container.group.as_ref()).map_err(Failure::other)
    }

    /// Clones, and waits until the program runs or the child has told why not.
    fn launch(
        &self,
        id: &str,
        pid_mode: &PidMode,
        setup: Setup<'_>,
        stdio: Stdio,
        group: Option<&Group>,
    ) -> Result<Launched, String> {
        let joiner = group.map(Group::joiner).transpose().map_err(|e| e.line())?;
        let (ours, theirs) = sys::fdpass::pair().map_err(|e| e.line())?;
        let mut flags = if setup.is_first() { CloneFlags::NEWNS } else { CloneFlags::empty() };
        if *pid_mode == PidMode::Container {
            flags |= CloneFlags::NEWPID;
        }
        let entered = self.enter_pidns(id, pid_mode)?;
        let fork = sys::process::clone3(flags, joiner.as_ref().and_then(Joiner::v2));
        if let Ok(Fork::Child) = fork {
            drop(ours);
            child::run(setup, stdio, joiner.as_ref(), theirs);
        }
        if entered {
            sys::namespace::enter(self.own_pidns.as_fd(), CloneFlags::NEWPID).map_err(|e| e.line())?;
        }
        let Fork::Parent { pid, pidfd } = fork.map_err(|e| e.line())? else {
            sys::process::exit_now(1);
        };
        drop((theirs, stdio, joiner));
        match wait_for_exec(ours.as_fd()) {
            Ok(terminal) => Ok(Launched { pid, pidfd, terminal }),
            Err(message) => {
                let _ = sys::process::pidfd_kill(pidfd.as_fd(), libc::SIGKILL);
                let _ = sys::process::wait(pidfd.as_fd());
                Err(message)
            }
        }
    }

    /// Makes the next child be born in another PID namespace; true where this process must come back afterwards.
    fn enter_pidns(&self, id: &str, mode: &PidMode) -> Result<bool, String> {
        let target = match mode {
            PidMode::Container | PidMode::Node => return Ok(false),
            PidMode::Pod => self.pause.as_ref().ok_or("the pod has no PID namespace any more")?,
            PidMode::Target(target) => {
                let container = self.containers.get(target).ok_or_else(|| format!("container {target} not found"))?;
                container.pidfd.as_ref().ok_or_else(|| format!("container {target} is not running"))?
            }
        };
        sys::namespace::enter(target.as_fd(), CloneFlags::NEWPID)
            .map_err(|e| format!("enter PID namespace for {id}: {}", e.line()))?;
        Ok(true)
    }
}

/// The child's socket closes when its program is executed; before that it sends a terminal or an error.
fn wait_for_exec(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, String> {
    let mut terminal = None;
    loop {
        match sys::fdpass::recv(socket) {
            Ok(None) => return Ok(terminal),
            Ok(Some((message, mut fds))) => match fds.pop() {
                Some(fd) => terminal = Some(fd),
                None => return Err(String::from_utf8_lossy(&message).into_owned()),
            },
            // Killed before it could say anything leaves an end of file; a reset is as good.
            Err(error) => return Err(format!("start the process: {error}")),
        }
    }
}

fn failed(spec: &Spec, message: &str) -> Container {
    let now = now_ns();
    let run = Run {
        phase: Phase::Exited,
        started_at: 0,
        finished_at: now,
        exit_code: 128,
        reason: node_api::REASON_START_ERROR.to_owned(),
        message: message.to_owned(),
        ..Run::default()
    };
    let output = Output::new(Log::none(), None, None);
    Container { spec: spec.clone(), run, pidfd: None, group: None, output, stdin: None, terminal: None }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), String> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| format!("make pipe: {e}"))
}
