//! A layer's archive becomes a directory for overlayfs, as a stream: nothing is kept but the files.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// A reader that hashes what passes, shared with who wants the digest at the end.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// Reads what is left, and gives `sha256:…` of everything.
    pub(crate) fn finish(mut self) -> io::Result<(String, R)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((digest_text(self.hasher), self.inner))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// `sha256:…` of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    digest_text(Sha256::new_with_prefix(bytes))
}

fn digest_text(hasher: Sha256) -> String {
    let hex: String = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) digest: String,
    pub(crate) diff_id: String,
    pub(crate) size: u64,
    pub(crate) inodes: u64,
    /// Directories that the archive has files in but no entry for.
    pub(crate) implicit: Vec<PathBuf>,
}

/// Unpacks an archive (plain, gzip or zstd, told by its first bytes) into `dir`. Digests are for the caller to check.
///
/// # Errors
/// An archive that is broken or leaves the directory; a full disk.
pub(crate) fn unpack(source: impl Read, dir: &Path) -> Result<Unpacked> {
    let broken = |e| Error::io("unpack into", dir, e);
    let compressed = Hashing::new(source);
    let plain = Hashing::new(decompress(compressed).map_err(broken)?);
    let mut archive = tar::Archive::new(plain);
    archive.set_ignore_zeros(false);
    let mut unpacker = Unpacker::new(dir)?;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        unpacker.entry(&mut entry)?;
    }
    unpacker.finish();
    let (diff_id, plain) = archive.into_inner().finish().map_err(broken)?;
    let (digest, _) = plain.into_inner().finish().map_err(broken)?;
    let implicit = unpacker.implicit.into_iter().collect();
    Ok(Unpacked { digest, diff_id, size: unpacker.size, inodes: unpacker.inodes, implicit })
}

/// A decompressor chosen by the first bytes.
pub(crate) enum Decompressor<R: Read> {
    Plain(Prefixed<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<io::BufReader<Prefixed<R>>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, io::BufReader<Prefixed<R>>>>),
}

/// First bytes looked at, then the rest.
pub(crate) struct Prefixed<R> {
    prefix: Vec<u8>,
    at: usize,
    rest: R,
}

impl<R: Read> Read for Prefixed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at < self.prefix.len() {
            let count = buffer.len().min(self.prefix.len() - self.at);
            buffer[..count].copy_from_slice(&self.prefix[self.at..self.at + count]);
            self.at += count;
            return Ok(count);
        }
        self.rest.read(buffer)
    }
}

pub(crate) fn decompress<R: Read>(mut source: R) -> io::Result<Decompressor<R>> {
    const BUFFER: usize = 128 * 1024;
    let mut prefix = Vec::new();
    source.by_ref().take(4).read_to_end(&mut prefix)?;
    let prefixed = |prefix: Vec<u8>| Prefixed { prefix, at: 0, rest: source };
    if prefix.starts_with(&[0x1f, 0x8b]) {
        let reader = io::BufReader::with_capacity(BUFFER, prefixed(prefix));
        return Ok(Decompressor::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader))));
    }
    if prefix.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let reader = io::BufReader::with_capacity(BUFFER, prefixed(prefix));
        return Ok(Decompressor::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)));
    }
    Ok(Decompressor::Plain(prefixed(prefix)))
}

impl<R: Read> Decompressor<R> {
    fn into_inner(self) -> R {
        match self {
            Self::Plain(p) => p.rest,
            Self::Gzip(d) => d.into_inner().into_inner().rest,
            Self::Zstd(d) => d.finish().into_inner().rest,
        }
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(buffer),
            Self::Gzip(r) => r.read(buffer),
            Self::Zstd(r) => r.read(buffer),
        }
    }
}

/// Writes entries below a directory; no path, not even through a link in the archive, leads out of it.
struct Unpacker {
    root: OwnedFd,
    dir: PathBuf,
    /// The directory of the last entry: archives list a directory's files one after the other.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Times of directories, set at the end, when nothing changes them any more.
    times: HashMap<PathBuf, i64>,
    /// Directories made without an entry of their own.
    implicit: BTreeSet<PathBuf>,
    size: u64,
    inodes: u64,
}

impl Unpacker {
    fn new(dir: &Path) -> Result<Self> {
        let root = sys::fs::open_dir(dir)?;
        // The root's own mode, should the archive have no entry for it.
        rustix::fs::chmod(dir, Mode::from_raw_mode(0o755)).map_err(|e| Error::io("change mode of", dir, e.into()))?;
        Ok(Self {
            root,
            dir: dir.to_owned(),
            parent: None,
            times: HashMap::new(),
            implicit: BTreeSet::new(),
            size: 0,
            inodes: 1,
        })
    }

    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let path = normal(&entry.path_bytes())?;
        let attributes = Attributes::read(entry, &path)?;
        let Some(name) = path.file_name() else {
            return self.root_entry(&attributes);
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        let parent = self.open_parent(&parent_path)?;
        let bytes = name.as_bytes();
        if bytes == b".wh..wh..opq" {
            return self.opaque(&parent_path);
        }
        if let Some(hidden) = bytes.strip_prefix(b".wh.") {
            return self.whiteout(&parent, std::ffi::OsStr::from_bytes(hidden), &path);
        }
        self.make(entry, &parent, name, &path, &attributes)
    }

    /// The archive's `./`: only attributes.
    fn root_entry(&mut self, attributes: &Attributes) -> Result<()> {
        let dir = self.dir.clone();
        attributes.apply(&dir, false)?;
        self.times.insert(dir, attributes.mtime);
        Ok(())
    }

    fn open_parent(&mut self, path: &Path) -> Result<OwnedFd> {
        let again = |fd: &OwnedFd| fd.try_clone().map_err(|e| Error::io("open", path, e));
        if let Some((last, fd)) = &self.parent
            && last == path
        {
            return again(fd);
        }
        let missing = |p: &&Path| !p.as_os_str().is_empty() && self.dir.join(p).symlink_metadata().is_err();
        let implicit: Vec<PathBuf> = path.ancestors().take_while(missing).map(Path::to_owned).collect();
        let fd = sys::fs::make_in_root(&self.root, path, sys::fs::Kind::Directory)?;
        self.implicit.extend(implicit);
        let kept = again(&fd)?;
        self.parent = Some((path.to_owned(), kept));
        Ok(fd)
    }

    fn opaque(&self, path: &Path) -> Result<()> {
        let dir = sys::fs::open_in_root(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        rustix::fs::fsetxattr(&dir, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
            .map_err(|e| Error::io("mark as opaque", path, e.into()))
    }

    fn whiteout(&mut self, parent: &OwnedFd, name: &std::ffi::OsStr, path: &Path) -> Result<()> {
        remove_existing(parent, name, path)?;
        self.inodes += 1;
        rustix::fs::mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(|e| Error::io("make whiteout", path, e.into()))
    }

    fn make<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        parent: &OwnedFd,
        name: &std::ffi::OsStr,
        path: &Path,
        attributes: &Attributes,
    ) -> Result<()> {
        let fail = |op| move |e: rustix::io::Errno| Error::io(op, path, e.into());
        let kind = entry.header().entry_type();
        // Through the open parent: no part of the path can be a link any more.
        let place = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
        self.inodes += 1;
        if kind.is_dir() {
            match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) if place.symlink_metadata().is_ok_and(|m| m.is_dir()) => {
                    self.inodes -= 1;
                }
                Err(rustix::io::Errno::EXIST) => {
                    remove_existing(parent, name, path)?;
                    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(fail("make directory"))?;
                }
                Err(error) => return Err(fail("make directory")(error)),
            }
            self.times.insert(self.dir.join(path), attributes.mtime);
            self.implicit.remove(path);
            return attributes.apply(&place, false);
        }
        remove_existing(parent, name, path)?;
        let node =
            |kind: FileType, device: u64| rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device);
        let device = || {
            let (major, minor) = (entry.header().device_major(), entry.header().device_minor());
            match (major, minor) {
                (Ok(Some(major)), Ok(Some(minor))) => Ok(rustix::fs::makedev(major, minor)),
                _ => Err(Error::Unusable(format!("{}: a device without numbers", path.display()))),
            }
        };
        match kind {
            tar::EntryType::Link => {
                let target = entry.link_name_bytes();
                let target = target.ok_or_else(|| Error::Unusable(format!("{}: a link to nothing", path.display())))?;
                self.inodes -= 1;
                return self.hard_link(parent, name, &normal(&target)?);
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                rustix::fs::symlinkat(&*target, parent, name).map_err(fail("make link"))?;
                return attributes.apply(&place, true);
            }
            tar::EntryType::Char => node(FileType::CharacterDevice, device()?).map_err(fail("make device"))?,
            tar::EntryType::Block => node(FileType::BlockDevice, device()?).map_err(fail("make device"))?,
            tar::EntryType::Fifo => node(FileType::Fifo, 0).map_err(fail("make pipe"))?,
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600));
                let mut file = File::from(fd.map_err(fail("make file"))?);
                self.size += io::copy(entry, &mut file).map_err(|e| Error::io("write", path, e))?;
            }
            // Records about records, which the reader has used already; anything newer is not for us.
            _ => {
                self.inodes -= 1;
                return Ok(());
            }
        }
        attributes.apply(&place, true)
    }

    fn hard_link(&self, parent: &OwnedFd, name: &std::ffi::OsStr, target: &Path) -> Result<()> {
        let fail = |e: rustix::io::Errno| Error::io("link to", target, e.into());
        let (Some(target_name), dir) = (target.file_name(), target.parent().unwrap_or(Path::new(""))) else {
            return Err(Error::Unusable("a hard link to the root".to_owned()));
        };
        let dir = sys::fs::open_in_root(&self.root, dir, OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::fs::linkat(dir.as_fd(), target_name, parent.as_fd(), name, AtFlags::empty()).map_err(fail)
    }

    fn finish(&mut self) {
        for (path, mtime) in &self.times {
            // Times of directories are a nicety.
            let _ = set_times(path, *mtime);
        }
    }
}

fn remove_existing(parent: &OwnedFd, name: &std::ffi::OsStr, path: &Path) -> Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
            let place = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
            Ok(sys::fs::remove_tree(&place)?)
        }
        Err(error) => Err(Error::io("replace", path, error.into())),
    }
}

/// A number of a header; an empty field counts as 0, as tools that write images in Go take it.
fn number(header: &tar::Header, field: &[u8], value: fn(&tar::Header) -> io::Result<u64>) -> io::Result<u64> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(0) } else { value(header) }
}

/// Owner, mode, extended attributes and time of an entry.
struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    mtime: i64,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Attributes {
    fn read<R: Read>(entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<Self> {
        const XATTR: &str = "SCHILY.xattr.";
        let mut xattrs = Vec::new();
        let bad = |e| Error::io("read attributes of", path, e);
        if let Some(extensions) = entry.pax_extensions().map_err(bad)? {
            for extension in extensions.flatten() {
                if let Some(name) = extension.key().ok().and_then(|k| k.strip_prefix(XATTR)) {
                    xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
                }
            }
        }
        let header = entry.header();
        let raw = header.as_old();
        let id = |field: &[u8], value: fn(&tar::Header) -> io::Result<u64>| {
            number(header, field, value).map_err(bad).map(|v| u32::try_from(v).unwrap_or(0))
        };
        Ok(Self {
            uid: id(&raw.uid, tar::Header::uid)?,
            gid: id(&raw.gid, tar::Header::gid)?,
            mode: header.mode().map_err(bad)? & 0o7777,
            mtime: number(header, &raw.mtime, tar::Header::mtime)
                .map_err(bad)
                .map(|t| i64::try_from(t).unwrap_or(0))?,
            xattrs,
        })
    }

    /// Owner first: changing it takes set-user-id bits and file capabilities away.
    fn apply(&self, place: &Path, times: bool) -> Result<()> {
        let fail = |op| move |e: rustix::io::Errno| Error::io(op, place, e.into());
        let (uid, gid) = (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)));
        rustix::fs::chownat(rustix::fs::CWD, place, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(fail("change owner of"))?;
        let link = place.symlink_metadata().is_ok_and(|m| m.is_symlink());
        if !link {
            rustix::fs::chmod(place, Mode::from_raw_mode(self.mode)).map_err(fail("change mode of"))?;
        }
        for (name, value) in &self.xattrs {
            match rustix::fs::lsetxattr(place, name, value, rustix::fs::XattrFlags::empty()) {
                // What this file system or kernel does not know (user.* on links, SELinux) is left out.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PERM) => {}
                Err(error) => return Err(fail("set attribute of")(error)),
            }
        }
        if times { set_times(place, self.mtime).map_err(fail("set time of")) } else { Ok(()) }
    }
}

/// Gives a directory that an archive did not describe the owner, mode and attributes that `lower` has at the same
/// path; false where it has none.
pub(crate) fn inherit_directory(lower: &Path, upper: &Path, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (from, to) = (lower.join(path), upper.join(path));
    let (Ok(meta), Ok(own)) = (from.symlink_metadata(), to.symlink_metadata()) else { return Ok(false) };
    if !meta.is_dir() || !own.is_dir() {
        return Ok(false);
    }
    let attributes = Attributes {
        uid: meta.uid(),
        gid: meta.gid(),
        mode: meta.mode() & 0o7777,
        mtime: meta.mtime(),
        xattrs: vec![],
    };
    attributes.apply(&to, true)?;
    Ok(true)
}

fn set_times(path: &Path, mtime: i64) -> rustix::io::Result<()> {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// A relative path without `.`; `..` is refused.
fn normal(path: &[u8]) -> Result<PathBuf> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(Error::Unusable(format!("archive entry {} leads out of the image", path.display()))),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn empty_numbers_of_headers_are_zero() {
        let mut header = tar::Header::new_old();
        let uid = |header: &tar::Header| number(header, &header.as_old().uid, tar::Header::uid).ok();
        assert_eq!(uid(&header), Some(0));
        header.set_uid(1000);
        assert_eq!(uid(&header), Some(1000));
        header.as_old_mut().uid = *b"nobody\0\0";
        assert_eq!(uid(&header), None);
    }
}
