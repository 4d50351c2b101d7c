//! Serving the daemon's requests.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::launch::Stdio;
use super::{Exec, Supervisor};
use crate::proto::{Answer, Failure, Message, Op, Phase, Reply, Request};

/// How long the processes of a removed container may take to vanish after SIGKILL.
const VANISH: Duration = Duration::from_secs(2);

type Done = Result<(Answer, Vec<OwnedFd>), Failure>;

impl Supervisor {
    /// Takes all requests that a connection has.
    pub(super) fn receive(&mut self, connection: u64) {
        loop {
            let Some(c) = self.connections.get(&connection) else { return };
            let (bytes, fds) = match sys::fdpass::recv(&c.socket) {
                Ok(Some(message)) => message,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Ok(None) | Err(_) => {
                    self.connections.remove(&connection);
                    return;
                }
            };
            let Ok(request) = serde_json::from_slice::<Request>(&bytes) else {
                // Not a language we speak; the daemon sees the connection end.
                self.connections.remove(&connection);
                return;
            };
            let seq = request.seq;
            let (result, fds) = match self.serve(connection, request.op, fds) {
                Ok((answer, fds)) => (Ok(answer), fds),
                Err(failure) => (Err(failure), Vec::new()),
            };
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            self.tell(connection, &Message::Reply(Reply { seq, result }), &borrowed);
        }
    }

    fn serve(&mut self, connection: u64, op: Op, fds: Vec<OwnedFd>) -> Done {
        let plain = |done: Result<(), Failure>| done.map(|()| (Answer::default(), Vec::new()));
        match op {
            Op::Start { container } => self.op_start(&container),
            Op::Kill { container, signal, all } => plain(self.op_kill(&container, signal, all)),
            Op::Remove { container } => plain(self.op_remove(&container)),
            Op::Exec { container, exec, args, terminal, stdin, stdout, stderr } => {
                let mut fds = fds.into_iter();
                let mut take = |wanted: bool| if wanted { fds.next() } else { None };
                let stdio = Stdio { stdin: take(stdin), stdout: take(stdout), stderr: take(stderr) };
                let launched = self.launch_exec(&container, args, terminal, stdio)?;
                self.execs.insert(exec, Exec { container, pidfd: launched.pidfd, connection });
                Ok((Answer::default(), launched.terminal.into_iter().collect()))
            }
            Op::KillExec { exec } => {
                if let Some(exec) = self.execs.get(&exec) {
                    let _ = sys::process::pidfd_kill(exec.pidfd.as_fd(), libc::SIGKILL);
                }
                plain(Ok(()))
            }
            Op::Attach { container, stdin, stdout, stderr } => self.op_attach(&container, [stdin, stdout, stderr], fds),
            Op::EndStdin { container } => {
                if let Some(c) = self.containers.get_mut(&container)
                    && c.spec.corten.stdin_once
                {
                    c.stdin = None;
                }
                plain(Ok(()))
            }
            Op::ReopenLog { container } => {
                let c = self.containers.get_mut(&container).ok_or_else(|| Failure::not_found(&container))?;
                plain(c.output.log.reopen().map_err(|e| Failure::other(format!("reopen log: {e}"))))
            }
            Op::Update { container, resources } => {
                let c = self.containers.get(&container).ok_or_else(|| Failure::not_found(&container))?;
                let group = c.group.as_ref().ok_or_else(|| Failure::state("the container has no cgroup"))?;
                plain(group.set(&resources.to_sys()).map_err(Failure::from))
            }
            Op::Connect { port } => Ok((Answer::default(), vec![connect(port)?])),
            Op::Status => {
                let containers = self.containers.iter().map(|(id, c)| (id.clone(), c.run.clone())).collect();
                Ok((Answer { containers, terminal: false }, Vec::new()))
            }
            Op::Shutdown => {
                self.shutdown = true;
                for container in self.containers.values().filter(|c| c.is_running()) {
                    kill_all(container.group.as_ref(), container.pidfd.as_ref());
                }
                plain(Ok(()))
            }
        }
    }

    fn op_start(&mut self, container: &str) -> Done {
        let run = self.start(container)?;
        self.tell_all(&Message::Container { container: container.to_owned(), run: run.clone() });
        Ok((Answer { containers: vec![(container.to_owned(), run)], terminal: false }, Vec::new()))
    }

    fn op_kill(&mut self, container: &str, signal: i32, all: bool) -> Result<(), Failure> {
        let c = self.containers.get(container).ok_or_else(|| Failure::not_found(container))?;
        let Some(pidfd) = &c.pidfd else { return Ok(()) };
        if all {
            kill_all(c.group.as_ref(), Some(pidfd));
            return Ok(());
        }
        match sys::process::pidfd_kill(pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                Err(Failure::other(format!("signal container {container}: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn op_remove(&mut self, container: &str) -> Result<(), Failure> {
        let Some(mut c) = self.containers.remove(container) else { return Ok(()) };
        if let Some(pidfd) = c.pidfd.take() {
            kill_all(c.group.as_ref(), Some(&pidfd));
            let _ = sys::process::wait(pidfd.as_fd());
        }
        if let Some(group) = &c.group {
            let _ = group.kill();
            if !group.wait_empty(VANISH) || group.remove().is_err() {
                // A process in the kernel's hands (uninterruptible) still holds it; the pod's removal tries again.
                return Ok(());
            }
        }
        Ok(())
    }

    fn op_attach(&mut self, container: &str, wanted: [bool; 3], fds: Vec<OwnedFd>) -> Done {
        let [stdin, stdout, stderr] = wanted;
        let c = self.containers.get_mut(container).ok_or_else(|| Failure::not_found(container))?;
        if c.run.phase != Phase::Running {
            return Err(Failure::state(format!("container {container} is not running")));
        }
        let mut fds = fds.into_iter();
        for (name, wanted) in [("stdout", stdout), ("stderr", stderr)] {
            if wanted && let Some(fd) = fds.next() {
                c.output.attach(name, fd);
            }
        }
        let input = match &c.terminal {
            Some(master) => Some(master),
            None => c.stdin.as_ref().filter(|_| stdin),
        };
        let input = input.map(rustix::io::dup).transpose().map_err(|e| Failure::other(format!("dup: {e}")))?;
        let answer = Answer { containers: Vec::new(), terminal: c.terminal.is_some() };
        Ok((answer, input.into_iter().collect()))
    }
}

fn kill_all(group: Option<&sys::cgroup::Group>, pidfd: Option<&OwnedFd>) {
    if let Some(group) = group {
        let _ = group.kill();
    }
    if let Some(pidfd) = pidfd {
        let _ = sys::process::pidfd_kill(pidfd.as_fd(), libc::SIGKILL);
    }
}

/// Connects to the pod's loopback: IPv4 first, as upstream's dialler does, then IPv6.
fn connect(port: u16) -> Result<OwnedFd, Failure> {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
    const LIMIT: Duration = Duration::from_secs(2);
    let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    let mut first = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(stream) => return Ok(stream.into()),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let why = first.map(|e| e.to_string()).unwrap_or_default();
    Err(Failure::other(format!("failed to connect to localhost:{port} inside the pod's network namespace: {why}")))
}
