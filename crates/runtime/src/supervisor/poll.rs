//! One turn of the loop: wait for whatever is ready, and serve it.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags};

use super::Supervisor;
use crate::proto::Message;

/// What a polled descriptor belongs to.
#[derive(Clone)]
enum Source {
    Listener,
    Connection(u64),
    Container(String),
    Exec(String),
    Output(String, usize),
    Sink(String),
    Pause,
}

impl Supervisor {
    pub(super) fn turn(&mut self) {
        let ready = self.wait();
        let mut ended = BTreeSet::new();
        for source in ready {
            match source {
                Source::Listener => {
                    while let Ok(Some(socket)) = sys::fdpass::accept(&self.listener) {
                        self.add_connection(socket);
                    }
                }
                Source::Connection(id) => self.receive(id),
                Source::Output(id, index) => {
                    if let Some(container) = self.containers.get_mut(&id) {
                        container.output.pump(index);
                    }
                }
                Source::Sink(id) => {
                    if let Some(container) = self.containers.get_mut(&id) {
                        container.output.flush_sinks();
                    }
                }
                Source::Container(id) => {
                    ended.insert(id);
                }
                Source::Exec(id) => self.exec_ended(&id),
                Source::Pause => {
                    // The pod's PID namespace is gone, and every process in it.
                    self.pause = None;
                }
            }
        }
        for id in ended {
            self.container_ended(&id);
        }
    }

    /// Waits, and gives what is ready. The list is small and made anew each time: no registration to keep in step.
    fn wait(&self) -> Vec<Source> {
        let mut sources = vec![Source::Listener];
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        let mut add = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        for (id, connection) in &self.connections {
            add(Source::Connection(*id), connection.socket.as_fd(), PollFlags::IN);
        }
        for (id, container) in &self.containers {
            if let Some(pidfd) = &container.pidfd {
                add(Source::Container(id.clone()), pidfd.as_fd(), PollFlags::IN);
            }
            for (index, fd) in container.output.readable() {
                add(Source::Output(id.clone(), index), fd, PollFlags::IN);
            }
            for (fd, pending) in container.output.sinks() {
                let flags = if pending { PollFlags::OUT } else { PollFlags::empty() };
                add(Source::Sink(id.clone()), fd, flags);
            }
        }
        for (id, exec) in &self.execs {
            add(Source::Exec(id.clone()), exec.pidfd.as_fd(), PollFlags::IN);
        }
        if let Some(pause) = &self.pause {
            add(Source::Pause, pause.as_fd(), PollFlags::IN);
        }
        loop {
            match rustix::event::poll(&mut fds, None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Vec::new(),
            }
        }
        let ready = fds.iter().zip(sources).filter(|(fd, _)| !fd.revents().is_empty());
        ready.map(|(_, source)| source).collect()
    }

    fn exec_ended(&mut self, id: &str) {
        let Some(exec) = self.execs.remove(id) else { return };
        let code = match sys::process::try_wait(exec.pidfd.as_fd()) {
            Ok(Some(code)) => code,
            Ok(None) => {
                self.execs.insert(id.to_owned(), exec);
                return;
            }
            Err(_) => 255,
        };
        self.tell(exec.connection, &Message::ExecExit { exec: id.to_owned(), code }, &[]);
    }

    /// The first process ended: nothing of the container may go on, all output goes to the log, then the daemon
    /// learns of it.
    fn container_ended(&mut self, id: &str) {
        let dir = self.container_dir(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        if !container.reap() {
            return;
        }
        container.output.drain();
        container.save(&dir);
        let run = container.run.clone();
        for exec in self.execs.values().filter(|e| e.container == id) {
            let _ = sys::process::pidfd_kill(exec.pidfd.as_fd(), libc::SIGKILL);
        }
        self.tell_all(&Message::Container { container: id.to_owned(), run });
    }
}
