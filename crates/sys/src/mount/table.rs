//! The mount table (`/proc/self/mountinfo`).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::{Context, Result};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// The mount's id.
    pub id: u32,
    /// The id of the mount it is on.
    pub parent: u32,
    /// Which part of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Options of the mount.
    pub options: String,
    /// The peer group, where the mount is shared.
    pub shared: Option<u32>,
    /// The group it is a slave of.
    pub master: Option<u32>,
    /// File system type.
    pub fs_type: String,
    /// Source.
    pub source: String,
    /// Options of the file system.
    pub super_options: String,
}

/// All mounts of this process' namespace, in the order they lie on each other.
///
/// # Errors
/// `/proc` cannot be read.
pub fn mount_table() -> Result<Vec<MountInfo>> {
    mounts_of("self")
}

/// All mounts that a process (`self`, or an id) sees.
///
/// # Errors
/// `/proc` cannot be read.
pub fn mounts_of(process: &str) -> Result<Vec<MountInfo>> {
    let path = Path::new("/proc").join(process).join("mountinfo");
    let text = std::fs::read(&path).at("read", &path)?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|b| *b == b' ');
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let id = text(fields.next()?).parse().ok()?;
    let parent = text(fields.next()?).parse().ok()?;
    fields.next()?; // device
    let root = unescape(fields.next()?);
    let target = unescape(fields.next()?);
    let options = text(fields.next()?);
    let (mut shared, mut master) = (None, None);
    for field in fields.by_ref() {
        if field == b"-" {
            break;
        }
        let field = text(field);
        if let Some(group) = field.strip_prefix("shared:") {
            shared = group.parse().ok();
        } else if let Some(group) = field.strip_prefix("master:") {
            master = group.parse().ok();
        }
    }
    let fs_type = text(fields.next()?);
    let source = unescape(fields.next()?).to_string_lossy().into_owned();
    let super_options = text(fields.next().unwrap_or_default());
    Some(MountInfo { id, parent, root, target, options, shared, master, fs_type, source, super_options })
}

/// Spaces, tabs, newlines and backslashes are written as `\040` and so on.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'\\'
            && let Some(digits) = tail.get(..3)
            && let Some(code) = std::str::from_utf8(digits).ok().and_then(|d| u8::from_str_radix(d, 8).ok())
        {
            out.push(code);
            rest = &tail[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_with_escapes_and_groups() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue";
        let mount = super::parse(line).unwrap();
        assert_eq!(mount.target.to_str(), Some("/mnt 2"));
        assert_eq!((mount.shared, mount.master, mount.fs_type.as_str()), (Some(7), Some(1), "ext3"));
    }
}
