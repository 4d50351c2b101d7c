//! One group in all hierarchies: make, join, kill, freeze, remove.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Hierarchies;
use crate::{Context, Result};

/// A group; the same path in every hierarchy.
#[derive(Debug, Clone)]
pub struct Group {
    pub(super) hierarchies: Hierarchies,
    pub(super) path: PathBuf,
}

/// Opened groups, for a child that joins them by itself.
#[derive(Debug)]
pub struct Joiner {
    v1: Vec<File>,
    v2: Option<OwnedFd>,
}

impl Joiner {
    /// The v2 group, for `clone3`.
    #[must_use]
    pub fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Moves this process, which must have one thread, into the v1 groups.
    ///
    /// # Errors
    /// The kernel's.
    pub fn join_v1(&self) -> Result<()> {
        for mut file in &self.v1 {
            file.write_all(b"0").at("join cgroup", "")?;
        }
        Ok(())
    }
}

impl Group {
    pub(super) fn new(hierarchies: Hierarchies, path: PathBuf) -> Self {
        Self { hierarchies, path }
    }

    /// The path relative to the hierarchies' roots.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A group below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { hierarchies: self.hierarchies.clone(), path: self.path.join(name) }
    }

    /// The directory of a v1 controller or, for an empty name, of v2.
    #[must_use]
    pub fn dir(&self, controller: &str) -> Option<PathBuf> {
        let mount =
            if controller.is_empty() { self.hierarchies.v2.as_deref() } else { self.hierarchies.v1_mount(controller) };
        mount.map(|m| m.join(&self.path))
    }

    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        let mounts = self.hierarchies.v1.iter().map(|h| &h.mount).chain(self.hierarchies.v2.as_ref());
        mounts.map(|m| m.join(&self.path)).collect()
    }

    /// The directories with the name each is mounted under, to be shown inside a container. A v2 beside v1 is not
    /// shown, as other runtimes do: programs would take the machine for a v2 one.
    #[must_use]
    pub fn views(&self) -> Vec<(PathBuf, Option<String>)> {
        if let (true, Some(mount)) = (self.hierarchies.v1.is_empty(), &self.hierarchies.v2) {
            return vec![(mount.join(&self.path), None)];
        }
        let view = |h: &super::V1Hierarchy| {
            let name = h.mount.file_name().map(|n| n.to_string_lossy().into_owned());
            (h.mount.join(&self.path), name)
        };
        self.hierarchies.v1.iter().map(view).collect()
    }

    /// The directory of the group in every hierarchy.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        self.dirs()
    }

    /// Whether it is there (in the first hierarchy).
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dirs().first().is_some_and(|d| d.is_dir())
    }

    /// Makes it with all groups above it, in all hierarchies; fine where it is there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn create(&self) -> Result<()> {
        for hierarchy in &self.hierarchies.v1 {
            let cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
            let dir = hierarchy.mount.join(&self.path);
            if !make_one(&dir)? {
                let mut current = hierarchy.mount.clone();
                for part in &self.path {
                    current.push(part);
                    make_one(&current)?;
                    if cpuset {
                        inherit_cpuset(&current)?;
                    }
                }
            } else if cpuset {
                inherit_cpuset(&dir)?;
            }
        }
        if let Some(mount) = &self.hierarchies.v2 {
            let dir = mount.join(&self.path);
            if self.hierarchies.v2_controllers.is_empty() && make_one(&dir)? {
                return Ok(());
            }
            let mut current = mount.clone();
            for part in &self.path {
                self.delegate(&current)?;
                current.push(part);
                make_one(&current)?;
            }
        }
        Ok(())
    }

    /// Gives the controllers of a v2 group on to the groups below it.
    fn delegate(&self, dir: &Path) -> Result<()> {
        const WANTED: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "hugetlb", "io"];
        let path = dir.join("cgroup.controllers");
        let have = std::fs::read_to_string(&path).at("read", &path)?;
        let path = dir.join("cgroup.subtree_control");
        let done = std::fs::read_to_string(&path).at("read", &path)?;
        let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
        let missing: Vec<String> =
            WANTED.iter().filter(|c| has(&have, c) && !has(&done, c)).map(|c| format!("+{c}")).collect();
        if missing.is_empty() {
            return Ok(());
        }
        std::fs::write(&path, missing.join(" ")).at("write", &path)
    }

    /// Opens the group for a child to join.
    ///
    /// # Errors
    /// The kernel's.
    pub fn joiner(&self) -> Result<Joiner> {
        let mut v1 = Vec::new();
        for hierarchy in &self.hierarchies.v1 {
            let path = hierarchy.mount.join(&self.path).join("tasks");
            v1.push(File::options().write(true).open(&path).at("open", &path)?);
        }
        let v2 = match &self.hierarchies.v2 {
            Some(mount) => Some(crate::fs::open_dir(&mount.join(&self.path))?),
            None => None,
        };
        Ok(Joiner { v1, v2 })
    }

    /// Moves this process, which must have one thread, into the group, v2 included.
    ///
    /// # Errors
    /// The kernel's.
    pub fn join(&self) -> Result<()> {
        self.joiner()?.join_v1()?;
        if let Some(dir) = self.dir("") {
            let path = dir.join("cgroup.procs");
            std::fs::write(&path, "0").at("join cgroup", &path)?;
        }
        Ok(())
    }

    /// Moves another process into the group. Slow on v1 (see the module).
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, pid: u32) -> Result<()> {
        for dir in self.dirs() {
            let path = dir.join("cgroup.procs");
            std::fs::write(&path, pid.to_string()).at("join cgroup", &path)?;
        }
        Ok(())
    }

    /// The processes in it and below it, as this process' PID namespace numbers them.
    #[must_use]
    pub fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let dir = self.dir("").or_else(|| self.dir("pids")).or_else(|| self.dirs().into_iter().next());
        let mut stack: Vec<PathBuf> = dir.into_iter().collect();
        while let Some(dir) = stack.pop() {
            if let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) {
                found.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()).filter(|p| *p != 0));
            }
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            stack.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        }
        found
    }

    /// Kills every process in it and below it, those just being forked included.
    ///
    /// # Errors
    /// The kernel's; a group that is gone has nobody to kill.
    pub fn kill(&self) -> Result<()> {
        if let Some(dir) = self.dir("") {
            let path = dir.join("cgroup.kill");
            match std::fs::write(&path, "1") {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound && !dir.exists() => return Ok(()),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).at("write", &path),
                Err(_) => {} // before Linux 5.14: one by one
            }
        }
        self.freeze(true).ok();
        let own = std::process::id();
        // Frozen, nobody can fork; without a freezer a few rounds catch up with any fork bomb that is not malicious.
        for _ in 0..8 {
            let processes = self.processes();
            let others = processes.iter().filter(|p| **p != own);
            if others.clone().count() == 0 {
                break;
            }
            for pid in others {
                // Gone already is as good.
                let _ = crate::process::kill(*pid, libc::SIGKILL);
            }
            self.freeze(false).ok();
        }
        self.freeze(false).ok();
        Ok(())
    }

    /// Stops or continues everything in it.
    ///
    /// # Errors
    /// The kernel's; `NotFound` where there is no freezer.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let (path, text) = if let Some(dir) = self.dir("") {
            (dir.join("cgroup.freeze"), if frozen { "1" } else { "0" })
        } else if let Some(dir) = self.dir("freezer") {
            (dir.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" })
        } else {
            return Err(std::io::Error::from(ErrorKind::NotFound)).at("find freezer of", &self.path);
        };
        std::fs::write(&path, text).at("write", &path)
    }

    /// How many times the kernel's OOM killer killed in this group.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let path = match self.dir("memory") {
            Some(dir) => dir.join("memory.oom_control"),
            None => match self.dir("") {
                Some(dir) => dir.join("memory.events"),
                None => return 0,
            },
        };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let value = text.lines().find_map(|l| l.strip_prefix("oom_kill "));
        value.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
    }

    /// Waits until nobody is in it, at most `limit`; true when empty. Event-driven on v2.
    #[must_use]
    pub fn wait_empty(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let events = self.dir("").and_then(|dir| File::open(dir.join("cgroup.events")).ok());
        loop {
            if self.processes().is_empty() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // v1 has no event for this: look again every 2 ms.
            let step = if events.is_some() { left } else { left.min(Duration::from_millis(2)) };
            let timeout =
                rustix::event::Timespec { tv_sec: step.as_secs() as i64, tv_nsec: i64::from(step.subsec_nanos()) };
            match &events {
                Some(events) => {
                    // Read first: poll tells of changes since the last read.
                    let mut text = [0u8; 64];
                    let read = rustix::io::pread(events, &mut text, 0).unwrap_or(0);
                    if String::from_utf8_lossy(&text[..read]).contains("populated 0") {
                        return true;
                    }
                    let mut fds = [rustix::event::PollFd::new(events, rustix::event::PollFlags::PRI)];
                    let _ = rustix::event::poll(&mut fds, Some(&timeout));
                }
                None => std::thread::sleep(step),
            }
        }
    }

    /// Removes it and all groups below it from all hierarchies. Kills nobody.
    ///
    /// # Errors
    /// `EBUSY` while processes are in it; all hierarchies are tried.
    pub fn remove(&self) -> Result<()> {
        let mut first = Ok(());
        for dir in self.dirs() {
            let done = remove_groups(&dir);
            if first.is_ok() {
                first = done;
            }
        }
        first
    }

    pub(super) fn write(&self, controller: &str, file: &str, value: &str) -> Result<()> {
        match self.dir(controller) {
            Some(dir) => {
                let path = dir.join(file);
                std::fs::write(&path, value).at("write", &path)
            }
            None => Ok(()),
        }
    }
}

/// Makes one directory; false where its parent is missing.
fn make_one(dir: &Path) -> Result<bool> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).at("make cgroup", dir),
    }
}

/// A new v1 cpuset is empty, and nobody can join it: it gets its parent's.
fn inherit_cpuset(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = dir.join(file);
        if !std::fs::read_to_string(&path).at("read", &path)?.trim().is_empty() {
            continue;
        }
        let Some(parent) = dir.parent() else { continue };
        let from = parent.join(file);
        let value = std::fs::read_to_string(&from).at("read", &from)?;
        if value.trim().is_empty() {
            inherit_cpuset(parent)?;
        }
        let value = std::fs::read_to_string(&from).at("read", &from)?;
        std::fs::write(&path, value.trim()).at("write", &path)?;
    }
    Ok(())
}

fn remove_groups(dir: &Path) -> Result<()> {
    match std::fs::remove_dir(dir) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    for entry in std::fs::read_dir(dir).at("read", dir)?.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_groups(&entry.path())?;
        }
    }
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at("remove cgroup", dir),
        _ => Ok(()),
    }
}
