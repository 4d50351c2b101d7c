//! Processes that outlive their starter: starting, finding again, ending.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// A process that is the same one still: its id and when it started, as ids are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pid {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub started: u64,
}

fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses: fields count from the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

impl Pid {
    /// The process that has this id now.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: started(pid)? })
    }

    /// Whether it runs still.
    pub fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Sends a signal and waits for the end; after `patience` sends SIGKILL. Gone already is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn end(&self, signal: i32, patience: Duration) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        let Ok(pidfd) = sys::process::pidfd_open(self.pid) else { return Ok(()) };
        if !self.is_alive() {
            return Ok(());
        }
        for (signal, patience) in [(signal, patience), (9, Duration::from_secs(10))] {
            if sys::process::pidfd_kill(pidfd.as_fd(), signal).is_err() {
                return Ok(());
            }
            let limit = Timespec::try_from(patience).map_err(|e| Error::Other(e.to_string()))?;
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            if poll(&mut fds, Some(&limit)).doing("wait for a process to end")? > 0 {
                return Ok(());
            }
        }
        Err(Error::Other(format!("process {} does not end", self.pid)))
    }
}

/// A process just started.
pub struct Spawned {
    /// The child.
    pub child: Child,
}

/// Starts this program under another command in a session of its own, with its log in a file. Its standard input and
/// output are pipes to us: it waits for a line on the one when told to, and reports on the other.
///
/// # Errors
/// The log cannot be opened or the program not started.
pub fn spawn(command: &str, argument: &Path, log: &Path) -> Result<Spawned> {
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir).map_err(|source| Error::File { operation: "create", path: dir.into(), source })?;
    }
    let log_file: File = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .map_err(|source| Error::File { operation: "open", path: log.into(), source })?;
    let child = Command::new("/proc/self/exe")
        .arg(command)
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .doing("start a process of the cluster")?;
    Ok(Spawned { child })
}

impl Spawned {
    /// Waits for the process to report, one line on its standard output.
    ///
    /// # Errors
    /// It ended without a report; its log says why.
    pub fn report(&mut self) -> Result<String> {
        let out = self.child.stdout.take().ok_or_else(|| Error::Other("the process has no pipe".into()))?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).doing("read the report of a process")?;
        if line.is_empty() {
            let status = self.child.wait().doing("wait for a process")?;
            return Err(Error::Other(format!("the process ended ({status}) before it was ready")));
        }
        Ok(line.trim().to_owned())
    }

    /// Lets the process go on that waits for its standard input to end.
    pub fn release(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Its identity.
    ///
    /// # Errors
    /// It has ended.
    pub fn pid(&self) -> Result<Pid> {
        Pid::of(self.child.id()).ok_or_else(|| Error::Other("the process ended at once".into()))
    }
}
