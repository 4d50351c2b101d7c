//! What daemon and supervisor say to each other: one JSON document per packet of a Unix socket, descriptors beside it.

use serde::{Deserialize, Serialize};

/// The version both sides must have; a supervisor of another version is still asked to shut down in version 1.
pub const VERSION: u32 = 1;

/// How a pod's supervisor sets up the pod; `sandbox` part of `sandbox.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSetup {
    /// The pod's id.
    pub id: String,
    /// Where the network namespace is pinned; `None` for the node's.
    pub netns: Option<std::path::PathBuf>,
    /// An own IPC namespace.
    pub ipc: bool,
    /// One PID namespace for all containers.
    pub shared_pid: bool,
    /// The host name; empty keeps the node's UTS namespace.
    pub hostname: String,
    /// Sysctls.
    pub sysctls: Vec<(String, String)>,
    /// The pod's group; empty for none.
    pub cgroup_parent: String,
    /// The supervisor's own OOM score.
    pub oom_score_adj: i32,
}

/// A request, answered by a [`Reply`] with the same number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Counts up per connection.
    pub seq: u64,
    /// What to do.
    pub op: Op,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Run `containers/<id>/spec.json`.
    Start {
        /// Which.
        container: String,
    },
    /// Send a signal to the first process, or with `all` to every process (SIGKILL only).
    Kill {
        /// Which.
        container: String,
        /// Number.
        signal: i32,
        /// To all processes of the container.
        all: bool,
    },
    /// Forget a container, killing what is left of it, and remove its group.
    Remove {
        /// Which.
        container: String,
    },
    /// Run a further process. Descriptors: those of stdin, stdout, stderr that are wanted, in this order.
    Exec {
        /// In which container.
        container: String,
        /// A name for the process, chosen by the daemon.
        exec: String,
        /// Program and arguments; all else is as in the container's own process.
        args: Vec<String>,
        /// On a terminal.
        terminal: bool,
        /// A stdin is among the descriptors.
        stdin: bool,
        /// A stdout is.
        stdout: bool,
        /// A stderr is.
        stderr: bool,
    },
    /// Kill a further process.
    KillExec {
        /// Which.
        exec: String,
    },
    /// Copy output to the descriptors given (stdout, stderr as wanted); the reply holds the writing end of stdin
    /// or the terminal.
    Attach {
        /// Which.
        container: String,
        /// Stdin is wanted.
        stdin: bool,
        /// A stdout is among the descriptors.
        stdout: bool,
        /// A stderr is.
        stderr: bool,
    },
    /// An attached stdin has ended; closes the container's where it is `stdinOnce`.
    EndStdin {
        /// Which.
        container: String,
    },
    /// Open the log anew.
    ReopenLog {
        /// Which.
        container: String,
    },
    /// Change limits.
    Update {
        /// Which.
        container: String,
        /// To what.
        resources: Box<crate::spec::Resources>,
    },
    /// Connect to a port of the pod's loopback; the reply holds the socket.
    Connect {
        /// Port.
        port: u16,
    },
    /// The states of all containers.
    Status,
    /// Kill all containers, and end when none is left.
    Shutdown,
}

/// A container's run, as the supervisor keeps it in `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Where it is.
    pub phase: Phase,
    /// ns since 1970.
    pub started_at: i64,
    /// ns since 1970.
    pub finished_at: i64,
    /// The exit code.
    pub exit_code: i32,
    /// The kernel's OOM killer was at work in it.
    pub oom_killed: bool,
    /// The reason, where it is neither Completed, Error nor OOMKilled.
    pub reason: String,
    /// A line for people.
    pub message: String,
    /// The first process, as the supervisor's PID namespace numbers it.
    pub pid: u32,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not started.
    #[default]
    Created,
    /// Running.
    Running,
    /// Ended.
    Exited,
}

/// What the supervisor says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// An answer, with descriptors where the request tells so.
    Reply(Reply),
    /// The pod is set up (on the first connection only), or could not be.
    Ready {
        /// The supervisor's version of this protocol.
        version: u32,
        /// Why it could not.
        error: Option<String>,
    },
    /// A container started or ended.
    Container {
        /// Which.
        container: String,
        /// How it is now.
        run: Run,
    },
    /// A further process ended.
    ExecExit {
        /// Which.
        exec: String,
        /// Its exit code.
        code: i32,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's number.
    pub seq: u64,
    /// What came of it.
    pub result: Result<Answer, Failure>,
}

/// A request done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// States ([`Op::Status`], and the one container of [`Op::Start`]).
    pub containers: Vec<(String, Run)>,
    /// Whether the container has a terminal ([`Op::Attach`]).
    pub terminal: bool,
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// One line.
    pub message: String,
}

/// Kinds of failure the daemon tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// No such container.
    NotFound,
    /// Not in the right state.
    State,
    /// Anything else.
    Other,
}

impl Failure {
    /// Any other failure.
    pub fn other(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Other, message: message.into() }
    }

    /// A container that is not there.
    #[must_use]
    pub fn not_found(container: &str) -> Self {
        Self { kind: FailureKind::NotFound, message: format!("container {container} not found") }
    }

    /// The wrong state.
    pub fn state(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::State, message: message.into() }
    }
}

impl From<sys::Error> for Failure {
    fn from(error: sys::Error) -> Self {
        Self::other(error.line())
    }
}
