//! fsGroup: gives a volume's files to a group.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::{Error, Result};

const SET_GID: u32 = 0o2000;

/// When ownership is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChangePolicy {
    /// Always, for the whole tree.
    #[default]
    Always,
    /// Only where the volume's root does not fit yet.
    OnRootMismatch,
}

/// Gives everything below `dir` to `group`: group-readable (and writable unless `read_only`), directories set-gid and
/// searchable. Links are given away but not followed.
pub fn apply(dir: &Path, group: u32, read_only: bool, policy: ChangePolicy) -> Result<()> {
    if policy == ChangePolicy::OnRootMismatch && root_fits(dir, group, read_only)? {
        return Ok(());
    }
    walk(dir, group, read_only)
}

fn root_fits(dir: &Path, group: u32, read_only: bool) -> Result<bool> {
    let meta = fs::symlink_metadata(dir).map_err(|e| Error::io("examining", dir, e))?;
    let wanted = mask(true, read_only);
    Ok(meta.gid() == group && meta.mode() & wanted == wanted)
}

fn mask(is_dir: bool, read_only: bool) -> u32 {
    let base = if read_only { 0o440 } else { 0o660 };
    if is_dir { base | 0o110 | SET_GID } else { base }
}

fn walk(path: &Path, group: u32, read_only: bool) -> Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        // A running container may remove files meanwhile.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("examining", path, e)),
    };
    std::os::unix::fs::lchown(path, None, Some(group)).map_err(|e| Error::io("changing group of", path, e))?;
    if meta.file_type().is_symlink() {
        return Ok(());
    }
    let mode = (meta.mode() & 0o7777) | mask(meta.is_dir(), read_only);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| Error::io("setting mode of", path, e))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(|e| Error::io("listing", path, e))? {
            walk(&entry.map_err(|e| Error::io("listing", path, e))?.path(), group, read_only)?;
        }
    }
    Ok(())
}
