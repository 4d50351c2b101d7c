//! Device nodes.

use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FileType, Mode};

use crate::{Context, Error, Result};

/// Character or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `c`
    Char,
    /// `b`
    Block,
}

/// A device on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNode {
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Mode bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Describes the device node at a path.
///
/// # Errors
/// `InvalidInput` where it is not a device; the kernel's errors.
pub fn stat(path: &Path) -> Result<DeviceNode> {
    let meta = std::fs::metadata(path).at("stat", path)?;
    let kind = if meta.file_type().is_char_device() {
        DeviceKind::Char
    } else if meta.file_type().is_block_device() {
        DeviceKind::Block
    } else {
        return Err(Error::invalid("stat", path, "not a device node"));
    };
    let device = meta.rdev();
    Ok(DeviceNode {
        kind,
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

/// Makes a device node below an open directory; an existing node is left.
///
/// # Errors
/// The kernel's.
pub fn make(dir: impl AsFd, name: &str, node: &DeviceNode) -> Result<()> {
    let kind = match node.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let mode = Mode::from_raw_mode(node.mode);
    match rustix::fs::mknodat(&dir, name, kind, mode, rustix::fs::makedev(node.major, node.minor)) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error).at("make device", name),
    }
    rustix::fs::chmodat(&dir, name, mode, rustix::fs::AtFlags::empty()).at("change mode of", name)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(node.uid), rustix::fs::Gid::from_raw(node.gid));
    rustix::fs::chownat(&dir, name, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .at("change owner of", name)
}
