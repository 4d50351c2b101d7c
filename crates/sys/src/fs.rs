//! Files: paths inside a foreign root, atomic replacement, locks, usage.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::{Context, Error, Result};

/// Opens a path only as a place (`O_PATH`), not following a last symbolic link.
///
/// # Errors
/// The kernel's.
pub fn open_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).at("open", path)
}

/// Opens a directory as a place, to resolve other paths in.
///
/// # Errors
/// The kernel's.
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", path)
}

/// Opens a path as a process whose root is `root` would: symbolic links, absolute ones too, stay inside.
///
/// # Errors
/// The kernel's.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(&root, inside, flags | OFlags::CLOEXEC, mode, resolve) {
            // A rename somewhere raced with the walk; the kernel asks to try again.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return other.at("open", path),
        }
    }
}

/// What to make at a mount point that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// Opens a place inside a foreign root, making it and the directories above it (mode 0755) where they are missing.
///
/// # Errors
/// The kernel's, a path with `..`.
pub fn make_in_root(root: impl AsFd, path: &Path, kind: Kind) -> Result<OwnedFd> {
    match open_in_root(&root, path, OFlags::PATH) {
        Err(error) if error.is_not_found() => {}
        other => return other,
    }
    let mut parent = open_in_root(&root, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
    let mut walked = PathBuf::new();
    let parts: Vec<Component<'_>> =
        path.components().filter(|c| !matches!(c, Component::RootDir | Component::CurDir)).collect();
    for (index, part) in parts.iter().enumerate() {
        let Component::Normal(name) = part else {
            return Err(Error::invalid("make", path, "the path has \"..\""));
        };
        walked.push(name);
        let last = index + 1 == parts.len();
        // Looked up from the root each time: a link met on the way counts from there, not from its directory.
        match open_in_root(&root, &walked, OFlags::PATH) {
            Ok(next) => parent = next,
            Err(error) if error.is_not_found() => {
                let made = if last && kind == Kind::File {
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    rustix::fs::openat(&parent, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
                } else {
                    rustix::fs::mkdirat(&parent, *name, Mode::from_raw_mode(0o755))
                };
                match made {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error).at("make", path),
                }
                parent = open_in_root(&root, &walked, OFlags::PATH)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(parent)
}

/// Replaces a file's content as one step: a temporary file beside it, then a rename. Not synced to disk: for state
/// that a crash of the *process* must not tear.
///
/// # Errors
/// The kernel's.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = temporary_beside(path);
    std::fs::write(&temporary, content).at("write", &temporary)?;
    std::fs::rename(&temporary, path).at("rename to", path)
}

/// [`write_atomic`] that also survives a loss of power.
///
/// # Errors
/// The kernel's.
pub fn write_durable(path: &Path, content: &[u8]) -> Result<()> {
    let temporary = temporary_beside(path);
    let mut file = File::create(&temporary).at("create", &temporary)?;
    file.write_all(content).at("write", &temporary)?;
    file.sync_all().at("sync", &temporary)?;
    std::fs::rename(&temporary, path).at("rename to", path)?;
    match path.parent() {
        Some(dir) => File::open(dir).and_then(|d| d.sync_all()).at("sync", dir),
        None => Ok(()),
    }
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Takes an exclusive lock on a file, which is made where it is missing; `None` when another process holds it. The
/// lock lasts as long as the file is open.
///
/// # Errors
/// The kernel's.
pub fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path).at("open", path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).at("lock", path),
    }
}

/// Removes a tree with whatever is in it; fine where it is gone. Stays on one file system: mounts are not descended
/// into.
///
/// # Errors
/// The kernel's.
pub fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// What a tree uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes allocated.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Adds up a tree as `du -x` does: allocated blocks, hard links once, other file systems left out. Files that vanish
/// meanwhile are left out.
///
/// # Errors
/// The root cannot be read.
pub fn usage(root: &Path) -> Result<Usage> {
    let meta = std::fs::symlink_metadata(root).at("stat", root)?;
    let device = meta.dev();
    let mut usage = Usage { bytes: meta.blocks() * 512, inodes: 1 };
    if !meta.is_dir() {
        return Ok(usage);
    }
    let mut links = std::collections::HashSet::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != device || (meta.nlink() > 1 && !meta.is_dir() && !links.insert(meta.ino())) {
                continue;
            }
            usage.bytes += meta.blocks() * 512;
            usage.inodes += 1;
            if meta.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    Ok(usage)
}

/// What a file system has and has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes left for ordinary users.
    pub available: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes left.
    pub inodes_free: u64,
}

/// The space of the file system that holds `path`.
///
/// # Errors
/// The kernel's.
pub fn space(path: &Path) -> Result<Space> {
    let s = rustix::fs::statvfs(path).at("stat file system of", path)?;
    Ok(Space {
        capacity: s.f_blocks * s.f_frsize,
        available: s.f_bavail * s.f_frsize,
        inodes: s.f_files,
        inodes_free: s.f_favail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_the_root_stays_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        let root = open_dir(dir.path()).unwrap();
        // The link points to /etc inside the root, which is not there: nothing outside may be touched.
        let made = make_in_root(&root, Path::new("/etc/made"), Kind::File);
        assert!(made.is_ok());
        assert!(dir.path().join("etc/made").is_file());
        let through = make_in_root(&root, Path::new("/link/two"), Kind::Directory);
        assert!(through.is_ok() && dir.path().join("etc/two").is_dir());
        assert!(make_in_root(&root, Path::new("/a/../b"), Kind::File).is_err());
    }

    #[test]
    fn locks_exclude() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }
}
