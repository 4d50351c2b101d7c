//! Mounts by descriptor: trees are cloned or made detached, changed, and then attached at a place that was opened
//! safely, so that no path inside a container's root is ever followed on trust.

mod table;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use crate::{Context, Error, Result};

pub use table::{MountInfo, mount_table, mounts_of};

/// Attributes of a mount, as the mount API has them.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// No set-user-id.
    pub const NOSUID: u64 = 0x2;
    /// No device nodes.
    pub const NODEV: u64 = 0x4;
    /// No programs.
    pub const NOEXEC: u64 = 0x8;
    /// Access times updated rarely (0 in the kernel: the default).
    pub const RELATIME: u64 = 0;
    /// Access times never updated.
    pub const NOATIME: u64 = 0x10;
    /// Ids shifted by a user namespace.
    pub const IDMAP: u64 = 0x0010_0000;
}

/// How a tree takes part in propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// As it is.
    Keep,
    /// Neither way.
    Private,
    /// Inward only.
    Slave,
    /// Both ways.
    Shared,
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Clones what is mounted at `path` (with all below it when `recursive`) into a detached tree; it stays in the peer
/// group of its source, so that shared mounts propagate.
///
/// # Errors
/// The kernel's.
pub fn clone_tree(path: &Path, recursive: bool) -> Result<OwnedFd> {
    clone_tree_at(rustix::fs::CWD, path, recursive)
}

/// [`clone_tree`] below an open directory; an empty path means the descriptor itself.
///
/// # Errors
/// The kernel's.
pub fn clone_tree_at(dir: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    rustix::mount::open_tree(dir, path, flags).at("clone mount", path)
}

/// Changes attributes and propagation of a tree.
///
/// # Errors
/// The kernel's; `ENOSYS` before Linux 5.12.
pub fn set_attributes(tree: impl AsFd, set: u64, clear: u64, propagation: Propagation, recursive: bool) -> Result<()> {
    let attributes = MountAttr {
        attr_set: set,
        attr_clr: clear,
        propagation: match propagation {
            Propagation::Keep => 0,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
        },
        userns_fd: 0,
    };
    mount_setattr(tree.as_fd(), &attributes, recursive)
}

/// Shifts the ids of a detached tree by a user namespace's mapping.
///
/// # Errors
/// The kernel's; `EINVAL` where the file system cannot.
pub fn set_idmap(tree: impl AsFd, userns: impl AsFd, recursive: bool) -> Result<()> {
    let userns_fd = userns.as_fd().as_raw_fd() as u64;
    mount_setattr(tree.as_fd(), &MountAttr { attr_set: attr::IDMAP, userns_fd, ..MountAttr::default() }, recursive)
}

fn mount_setattr(tree: BorrowedFd<'_>, attributes: &MountAttr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated empty string and the attributes have the size given; both are only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()).at("change mount", "") }
}

/// Attaches a detached tree at an opened place (`O_PATH`).
///
/// # Errors
/// The kernel's.
pub fn attach(tree: impl AsFd, place: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", place, "", flags).at("attach mount", "")
}

/// A new, detached file system: `tmpfs`, `proc`, `sysfs`, `devpts`, `mqueue`, `cgroup`, `cgroup2`.
///
/// # Errors
/// The kernel's.
pub fn new_filesystem(kind: &str, source: &str, options: &[(&str, Option<&str>)], attributes: u64) -> Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).at("open file system", kind)?;
    if !source.is_empty() {
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", source).at("configure", kind)?;
    }
    for (key, value) in options {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value),
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), *key),
        }
        .at("configure", format!("{kind} {key}"))?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).at("make file system", kind)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).at("mount", kind)
}

/// Mounts an overlay at `target`. `lowers` are names relative to `layers_dir`, *topmost first*; the working directory
/// of this process becomes `layers_dir`, which keeps the option string below the kernel's one page.
///
/// With an upper layer the mount is `volatile` where the kernel knows that (5.10): otherwise the unmounting at every
/// container's end would sync the node's whole file system, half a second on a busy one. The price is nothing: an
/// upper layer never outlives its container, so it need not outlive a crash.
///
/// # Errors
/// More layers than one page of options can name, and the kernel's errors.
pub fn overlay(
    target: &Path,
    layers_dir: &Path,
    lowers: &[String],
    upper_work: Option<(&Path, &Path)>,
    flags: u64,
) -> Result<()> {
    let mut options = b"lowerdir=".to_vec();
    for (index, lower) in lowers.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        push_escaped(&mut options, lower.as_bytes());
    }
    if let Some((upper, work)) = upper_work {
        options.extend_from_slice(b",upperdir=");
        push_escaped(&mut options, upper.as_os_str().as_bytes());
        options.extend_from_slice(b",workdir=");
        push_escaped(&mut options, work.as_os_str().as_bytes());
    }
    if options.len() >= 4096 - VOLATILE.len() {
        return Err(Error::invalid("mount overlay", target, "too many layers"));
    }
    rustix::process::chdir(layers_dir).at("change to", layers_dir)?;
    let flags = MountFlags::from_bits_retain(flags as u32);
    let mount = |options: Vec<u8>| -> io::Result<()> {
        let options = CString::new(options)?;
        Ok(rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())?)
    };
    if upper_work.is_some() {
        match mount([&options[..], VOLATILE].concat()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            done => return done.at("mount overlay", target),
        }
    }
    mount(options).at("mount overlay", target)
}

const VOLATILE: &[u8] = b",volatile";

/// Colons, commas and backslashes separate in overlay's options.
fn push_escaped(options: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        if matches!(byte, b':' | b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(*byte);
    }
}

/// Makes the whole tree of this mount namespace a slave of what it was copied from: mounts of the node still arrive,
/// nothing goes back.
///
/// # Errors
/// The kernel's.
pub fn make_root_slave() -> Result<()> {
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).at("change propagation of", "/")
}

/// Makes `root`, which must be a mount point, the root of this mount namespace, and lets go of the old one.
///
/// # Errors
/// The kernel's.
pub fn pivot(root: &Path) -> Result<()> {
    let old = crate::fs::open_dir(Path::new("/"))?;
    rustix::process::chdir(root).at("change to", root)?;
    rustix::process::pivot_root(".", ".").at("change root to", root)?;
    // Into the old root, which now lies on top of the new one: "." would still mean the new one. A slave, so that
    // the detaching does not travel back to the node.
    rustix::process::fchdir(&old).at("change to", "old root")?;
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change(".", flags).at("change propagation of", "old root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).at("unmount", "old root")?;
    rustix::process::chdir("/").at("change to", "/")
}

/// Mounts a tmpfs at a path.
///
/// # Errors
/// The kernel's.
pub fn tmpfs(target: &Path, options: &[(&str, Option<&str>)], attributes: u64) -> Result<()> {
    let tree = new_filesystem("tmpfs", "tmpfs", options, attributes)?;
    let place = crate::fs::open_path(target)?;
    attach(tree, place)
}

/// Unmounts whatever is mounted at `path`, all layers of it, lazily; fine where nothing is.
///
/// # Errors
/// The kernel's.
pub fn unmount_if_mounted(path: &Path) -> Result<()> {
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // EINVAL: not a mount point. ENOENT: nothing there.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).at("unmount", path),
        }
    }
}

/// Unmounts everything at and below `root`, deepest first.
///
/// # Errors
/// The first failure, after all were tried.
pub fn unmount_below(root: &Path) -> Result<()> {
    let mut first = Ok(());
    for mount in mount_table()?.iter().rev().filter(|m| m.target.starts_with(root)) {
        let done = rustix::mount::unmount(&mount.target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        if let Err(error) = done
            && error != rustix::io::Errno::INVAL
            && error != rustix::io::Errno::NOENT
            && first.is_ok()
        {
            first = Err(error).at("unmount", &mount.target);
        }
    }
    first
}
