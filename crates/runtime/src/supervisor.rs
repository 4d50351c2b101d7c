//! The process that keeps a pod: started by exec of this binary with the pod's directory as its argument and a
//! connected socket as its stdin.
//!
//! One thread, one `poll` loop, no async runtime: it must stay far below 2 MB and live for months. It never decides;
//! it runs specs, pumps output into logs and to whoever is attached, and tells the daemon what ended. Losing the
//! daemon changes nothing for it: a new daemon connects to `sock`.

mod child;
mod container;
mod launch;
mod log;
mod output;
mod podns;
mod poll;
mod requests;
mod rootfs;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::cgroup::Hierarchies;

use self::container::Container;
use crate::proto::{Message, PodSetup, VERSION};

/// The file of the pod's setup, in its directory.
pub const SETUP_FILE: &str = "setup.json";
/// The lock held while the supervisor lives.
pub const LOCK_FILE: &str = "lock";
/// The socket.
pub const SOCKET_FILE: &str = "sock";
/// The directory of containers.
pub const CONTAINERS_DIR: &str = "containers";

/// A connected daemon.
struct Connection {
    socket: OwnedFd,
}

/// A further process in a container.
struct Exec {
    container: String,
    pidfd: OwnedFd,
    connection: u64,
}

/// All that the loop works on.
struct Supervisor {
    dir: PathBuf,
    listener: OwnedFd,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    containers: BTreeMap<String, Container>,
    execs: HashMap<String, Exec>,
    hierarchies: Hierarchies,
    own_pidns: OwnedFd,
    pause: Option<OwnedFd>,
    shutdown: bool,
    _lock: std::fs::File,
}

/// Runs the supervisor of the pod whose directory is the first argument. Never returns an error to a shell: what goes
/// wrong is told to the daemon over stdin's socket.
#[must_use]
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> i32 {
    let Some(dir) = arguments.next().map(PathBuf::from) else {
        eprintln!("corten-supervisor is started by the runtime, not by hand");
        return 2;
    };
    sys::process::set_name("corten-pod");
    sys::process::ignore_terminal_signals();
    let Ok(first) = rustix::io::dup(std::io::stdin()) else { return 1 };
    let _ = rustix::io::fcntl_setfd(&first, rustix::io::FdFlags::CLOEXEC);
    replace_stdin();
    match Supervisor::new(&dir) {
        Ok(mut supervisor) => {
            supervisor.add_connection(first);
            supervisor.tell_all(&Message::Ready { version: VERSION, error: None });
            supervisor.run();
            0
        }
        Err(message) => {
            let ready = Message::Ready { version: VERSION, error: Some(message) };
            let _ = sys::fdpass::send(&first, &encode(&ready), &[]);
            1
        }
    }
}

/// The socket must not stay open as stdin, nor be inherited.
fn replace_stdin() {
    if let Ok(null) = std::fs::File::open("/dev/null") {
        let _ = sys::process::set_stdio(null.as_fd(), 0);
    }
}

fn encode(message: &Message) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_default()
}

impl Supervisor {
    fn new(dir: &Path) -> Result<Self, String> {
        let path = dir.join(SETUP_FILE);
        let text = std::fs::read(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
        let setup: PodSetup = serde_json::from_slice(&text).map_err(|e| format!("read {}: {e}", path.display()))?;
        let lock = sys::fs::try_lock(&dir.join(LOCK_FILE)).map_err(|e| e.line())?;
        let lock = lock.ok_or("another supervisor has this pod")?;
        let _ = rustix::process::setsid();
        // The pod's processes come and go; the supervisor is the last that should be killed for memory.
        let _ = sys::process::set_oom_score_adj(setup.oom_score_adj);
        let own_pidns = sys::namespace::open("/proc/self/ns/pid").map_err(|e| e.line())?;
        let hierarchies = podns::join_pod_cgroup(&setup)?;
        podns::make_namespaces(&setup)?;
        let pause = if setup.shared_pid { Some(podns::start_pause()?) } else { None };
        let socket = dir.join(SOCKET_FILE);
        let _ = std::fs::remove_file(&socket);
        let listener = sys::fdpass::listen(&socket).map_err(|e| e.line())?;
        Ok(Self {
            dir: dir.to_owned(),
            listener,
            connections: BTreeMap::new(),
            next_connection: 1,
            containers: BTreeMap::new(),
            execs: HashMap::new(),
            hierarchies,
            own_pidns,
            pause,
            shutdown: false,
            _lock: lock,
        })
    }

    fn add_connection(&mut self, socket: OwnedFd) {
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        self.connections.insert(self.next_connection, Connection { socket });
        self.next_connection += 1;
    }

    /// Sends to every connected daemon; one that does not take it is cut off, and asks for the status when it
    /// comes back.
    fn tell_all(&mut self, message: &Message) {
        let bytes = encode(message);
        self.connections.retain(|_, c| sys::fdpass::send(&c.socket, &bytes, &[]).is_ok());
    }

    fn tell(&mut self, connection: u64, message: &Message, fds: &[std::os::fd::BorrowedFd<'_>]) {
        if let Some(c) = self.connections.get(&connection)
            && sys::fdpass::send(&c.socket, &encode(message), fds).is_err()
        {
            self.connections.remove(&connection);
        }
    }

    fn container_dir(&self, container: &str) -> PathBuf {
        self.dir.join(CONTAINERS_DIR).join(container)
    }

    /// Whether there is nothing left to live for.
    fn finished(&self) -> bool {
        self.shutdown && self.containers.values().all(|c| !c.is_running())
    }

    fn run(&mut self) {
        while !self.finished() {
            self.turn();
        }
        // Output that is still on its way to the logs was drained when the containers ended.
        let _ = std::fs::remove_file(self.dir.join(SOCKET_FILE));
    }
}

/// ns since 1970.
fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
