//! subPath: part of a volume, without letting the volume's content point elsewhere.
//!
//! Every component is opened beneath the volume's root with `openat2(RESOLVE_BENEATH)`, and the open file, not its
//! path, is bound to a place only root can reach. Whatever the pod renames or links meanwhile, the container sees what
//! was opened.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::{Error, Result, mounts};

/// Where the bound part of a volume goes.
#[must_use]
pub fn target(pod_dir: &Path, volume: &str, container: &str, index: usize) -> PathBuf {
    pod_dir.join("volume-subpaths").join(volume).join(container).join(index.to_string())
}

/// Opens `sub_path` below `root`, making directories that are missing (with the root's mode), and binds it to `target`.
///
/// # Errors
/// [`Error::Invalid`] where the path leaves the volume; [`Error::Io`] otherwise.
pub fn bind(root: &Path, sub_path: &str, target: &Path) -> Result<()> {
    let fd = open(root, sub_path)?;
    let wanted = rustix::fs::fstat(&fd).map_err(|e| Error::io("examining", root.join(sub_path), e))?;
    if let Ok(present) = fs::metadata(target)
        && mounts::is_mount_point(target)?
    {
        if present.ino() == wanted.st_ino && present.dev() == wanted.st_dev {
            return Ok(());
        }
        mounts::unmount(target)?;
    }
    prepare(target, rustix::fs::FileType::from_raw_mode(wanted.st_mode).is_dir())?;
    mounts::bind_fd(fd.as_fd(), target)
}

fn prepare(target: &Path, directory: bool) -> Result<()> {
    let parent = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|e| Error::io("creating", parent, e))?;
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() == directory => return Ok(()),
        Ok(meta) if meta.is_dir() => fs::remove_dir(target).map_err(|e| Error::io("removing", target, e))?,
        Ok(_) => fs::remove_file(target).map_err(|e| Error::io("removing", target, e))?,
        Err(_) => {}
    }
    if directory {
        fs::create_dir(target).map_err(|e| Error::io("creating", target, e))
    } else {
        fs::File::create(target).map(drop).map_err(|e| Error::io("creating", target, e))
    }
}

/// Opens a path beneath a directory; missing components become directories.
fn open(root: &Path, sub_path: &str) -> Result<OwnedFd> {
    let relative = Path::new(sub_path);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(Error::Invalid(format!("subPath {sub_path:?} must be relative and must not contain '..'")));
    }
    let at = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("opening", root, e))?;
    match beneath(&at, relative) {
        Ok(fd) => return Ok(fd),
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(escape_or_io(root, sub_path, error)),
    }
    let mode = fs::metadata(root).map_err(|e| Error::io("examining", root, e))?.mode() & 0o7777;
    let mut so_far = PathBuf::new();
    for part in relative.components() {
        let parent = if so_far.as_os_str().is_empty() { Path::new(".").to_path_buf() } else { so_far.clone() };
        so_far.push(part);
        match beneath(&at, &so_far) {
            Ok(_) => {}
            Err(rustix::io::Errno::NOENT) => {
                let parent = beneath(&at, &parent).map_err(|e| escape_or_io(root, sub_path, e))?;
                let bits = Mode::from_raw_mode(mode);
                let name = part.as_os_str();
                match rustix::fs::mkdirat(&parent, name, bits) {
                    // The umask must not decide who may use the directory.
                    Ok(()) => rustix::fs::chmodat(&parent, name, bits, rustix::fs::AtFlags::empty())
                        .map_err(|e| Error::io("setting mode of", root.join(&so_far), e))?,
                    Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(Error::io("creating", root.join(&so_far), error)),
                }
            }
            Err(error) => return Err(escape_or_io(root, sub_path, error)),
        }
    }
    beneath(&at, relative).map_err(|e| escape_or_io(root, sub_path, e))
}

fn beneath(at: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(at, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn escape_or_io(root: &Path, sub_path: &str, error: rustix::io::Errno) -> Error {
    match error {
        rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => {
            Error::Invalid(format!("subpath {sub_path:?} not within volume path {:?}", root.display().to_string()))
        }
        error => Error::io("opening", root.join(sub_path), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_beneath_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("v");
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        fs::create_dir(root.join("real")).unwrap();
        std::os::unix::fs::symlink("real", root.join("in")).unwrap();
        for (path, fine) in [
            ("a/b/c", true),
            ("in/x", true),
            ("out", false),
            ("out/passwd", false),
            ("up/v", false),
            ("../v", false),
            ("/etc", false),
        ] {
            assert_eq!(open(&root, path).is_ok(), fine, "{path}");
        }
        assert!(root.join("a/b/c").is_dir() && root.join("real/x").is_dir());
    }
}
