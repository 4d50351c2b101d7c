//! The few mount operations volumes need, and the mount table.

use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::{Error, Result};

/// Mounts a tmpfs; `size` in bytes limits it, without it the kernel's half of the memory holds.
pub fn mount_tmpfs(target: &Path, size: Option<u64>) -> Result<()> {
    let data = match size {
        Some(size) => format!("size={size},mode=0755"),
        None => "mode=0755".to_owned(),
    };
    let data =
        std::ffi::CString::new(data).map_err(|e| Error::io("mounting tmpfs on", target, std::io::Error::other(e)))?;
    rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::empty(), data.as_c_str())
        .map_err(|e| Error::io("mounting tmpfs on", target, e))
}

/// Binds what `fd` refers to onto `target`; immune to renames and links made meanwhile.
pub fn bind_fd(fd: BorrowedFd<'_>, target: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;
    let source = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::mount::mount_bind(source.as_str(), target).map_err(|e| Error::io("binding onto", target, e))
}

/// Binds a directory, submounts included, onto `target`.
pub fn bind_recursive(source: &Path, target: &Path) -> Result<()> {
    rustix::mount::mount_bind_recursive(source, target).map_err(|e| Error::io("binding onto", target, e))
}

/// Takes one mount off `target`, lazily: open files elsewhere cannot hold a pod's deletion.
pub fn unmount(target: &Path) -> Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::io("unmounting", target, error)),
    }
}

/// Mount points at or below `dir`, deepest first.
pub fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let table = "/proc/self/mountinfo";
    let text = std::fs::read(table).map_err(|e| Error::io("reading", table, e))?;
    Ok(parse_below(&text, dir))
}

/// Whether something is mounted at `path`.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    Ok(mounts_below(path)?.iter().any(|point| point == path))
}

fn parse_below(text: &[u8], dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = text
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))))
        .filter(|point| point.starts_with(dir))
        .collect();
    // Later lines are mounted over earlier ones, so the reverse order of the table is the order to unmount in.
    found.reverse();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'\\' && tail.len() >= 3 && tail[..3].iter().all(|b| (b'0'..=b'7').contains(b)) {
            let code = tail[..3].iter().fold(0u32, |n, b| n * 8 + u32::from(b - b'0'));
            out.push(u8::try_from(code).unwrap_or(b'?'));
            rest = &tail[3..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read_with_escapes_and_deepest_first() {
        let text = b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /p/a\\040b rw - tmpfs tmpfs rw\n3 2 0:3 / /p/a\\040b/c rw - tmpfs tmpfs rw\n4 1 0:4 / /pq rw - tmpfs t rw\n";
        assert_eq!(parse_below(text, Path::new("/p")), [PathBuf::from("/p/a b/c"), PathBuf::from("/p/a b")]);
    }
}
