//! Network namespaces by descriptor: open, create, and work inside one on a thread of its own.

use super::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// An open network namespace. It lives at least as long as this value.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
    name: String,
}

impl NetNs {
    /// Opens the namespace at `path` (`/proc/<pid>/ns/net` or a bind mount).
    ///
    /// # Errors
    /// When the file is missing or unreadable.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::Namespace { path: name.clone(), source: e.into() })?;
        Ok(Self { fd, name })
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn current() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// A new namespace that lives only as long as the returned value (and whatever enters it).
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn create() -> Result<Self> {
        on_thread(|| {
            unshare_net()?;
            let mut ns = Self::current()?;
            ns.name = "anonymous".to_owned();
            Ok(ns)
        })?
    }

    /// Creates a namespace and pins it at `path` by a bind mount, as `ip netns add` does.
    ///
    /// The mount is made in the caller's mount namespace. Undo with [`remove_pinned`].
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, or when the file cannot be made.
    pub fn create_pinned(path: impl AsRef<Path>) -> Result<Self> {
        let path: PathBuf = path.as_ref().to_owned();
        let fail = |source: io::Error| Error::Namespace { path: path.display().to_string(), source };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(fail)?;
        }
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        on_thread(|| {
            unshare_net()?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", &path).map_err(|e| fail(e.into()))
        })??;
        Self::open(&path)
    }

    /// What the namespace is called in messages: its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A second handle on the same namespace.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self.fd.try_clone().map_err(|source| Error::Namespace { path: self.name.clone(), source })?;
        Ok(Self { fd, name: self.name.clone() })
    }

    /// Whether both are the same namespace.
    ///
    /// # Errors
    /// When one cannot be inspected.
    pub fn same_as(&self, other: &Self) -> Result<bool> {
        let stat = |ns: &Self| {
            rustix::fs::fstat(&ns.fd).map_err(|e| Error::Namespace { path: ns.name.clone(), source: e.into() })
        };
        let (a, b) = (stat(self)?, stat(other)?);
        Ok(a.st_ino == b.st_ino && a.st_dev == b.st_dev)
    }

    /// Runs `work` inside the namespace, on a thread that ends with it.
    ///
    /// The caller waits; the process's other threads never see the foreign namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| {
            self.enter_this_thread()?;
            Ok(work())
        })?
    }

    /// Moves the calling thread into the namespace for good: only for a thread or process that exists for this.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn enter_this_thread(&self) -> Result<()> {
        rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| Error::Namespace { path: self.name.clone(), source: e.into() })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether a file is a namespace: a pinned one that outlived its mount (after a restart of the machine) is not.
pub fn is_namespace(path: impl AsRef<Path>) -> bool {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    rustix::fs::statfs(path.as_ref()).is_ok_and(|s| matches!(s.f_type, NSFS_MAGIC | PROC_SUPER_MAGIC))
}

/// Undoes [`NetNs::create_pinned`]; absent is fine.
///
/// # Errors
/// When the mount is busy or the file cannot be removed.
pub fn remove_pinned(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let fail = |source: io::Error| Error::Namespace { path: path.display().to_string(), source };
    match rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(fail(e.into())),
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fail(e)),
        _ => Ok(()),
    }
}

#[allow(deprecated, reason = "the safe form only excludes flags that this one does not use")]
fn unshare_net() -> Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNET)
        .map_err(|e| Error::Namespace { path: "new".to_owned(), source: e.into() })
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| Error::Namespace { path: "thread".to_owned(), source })?
            .join()
            .map_err(|_| Error::Panicked)
    })
}
