//! Namespaces: making, pinning by a bind mount, entering.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::process::CloneFlags;
use crate::{Context, Error, Result};

/// Gives this process namespaces of its own. For a new PID namespace only later children are in it.
///
/// # Errors
/// The kernel's.
pub fn unshare(flags: CloneFlags) -> Result<()> {
    if flags == CloneFlags::empty() {
        return Ok(());
    }
    // SAFETY: none of these flags unshares memory or descriptors, so nothing that Rust relies on changes.
    let done = unsafe { libc::unshare(flags.bits() as i32) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).at("unshare", "") }
}

/// Enters namespaces: of a process (a pidfd, several flags), or a namespace file (one flag or none).
///
/// # Errors
/// The kernel's; entering a mount namespace needs a process with one thread.
pub fn enter(fd: BorrowedFd<'_>, flags: CloneFlags) -> Result<()> {
    // SAFETY: as for `unshare`: neither memory nor descriptors change.
    let done = unsafe { libc::setns(fd.as_raw_fd(), flags.bits() as i32) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).at("enter namespace", "") }
}

/// Opens a namespace file, such as `/proc/self/ns/pid` or a pinned one.
///
/// # Errors
/// The kernel's.
pub fn open(path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).at("open", path)
}

/// Keeps a namespace alive at `path` by a bind mount of its file; made anew where there is one already.
///
/// # Errors
/// The kernel's.
pub fn pin(source: &Path, path: &Path) -> Result<()> {
    unpin(path)?;
    std::fs::File::create(path).at("create", path)?;
    rustix::mount::mount_bind(source, path).at("bind mount", path)
}

/// Undoes [`pin`]; fine where nothing is pinned.
///
/// # Errors
/// The kernel's.
pub fn unpin(path: &Path) -> Result<()> {
    crate::mount::unmount_if_mounted(path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", path),
        _ => Ok(()),
    }
}

/// Whether a path is on a namespace file system (a pinned namespace).
#[must_use]
pub fn is_pinned(path: &Path) -> bool {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    #[allow(clippy::unnecessary_cast)] // its type differs by architecture
    rustix::fs::statfs(path).is_ok_and(|s| s.f_type as i64 == NSFS_MAGIC)
}

/// Sets the host name of this process' UTS namespace.
///
/// # Errors
/// The kernel's.
pub fn set_hostname(name: &str) -> Result<()> {
    if name.len() > 64 {
        return Err(Error::invalid("set host name", name, "longer than 64 bytes"));
    }
    rustix::system::sethostname(name.as_bytes()).at("set host name", name)
}

/// Brings the loopback interface of this process' network namespace up.
///
/// # Errors
/// The kernel's.
pub fn loopback_up() -> Result<()> {
    use std::os::fd::AsFd;
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .at("socket", "lo")?;
    // SAFETY: an all-zero ifreq is valid; the name fits with its NUL.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq with name and flags set, as here.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).at("bring up", "lo") }
}
