//! The root file system of a container: overlay, mounts, devices, pivot, masks. Runs in the child, in a mount
//! namespace of its own; when the container ends, the kernel takes all of it away.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::devices::{DeviceKind, DeviceNode};
use sys::fs::Kind;
use sys::mount::{self, Propagation, attr};
use sys::process::CloneFlags;

use crate::spec::{Mount, Spec};

/// A mount's options, read.
#[derive(Default)]
struct Options<'a> {
    attributes: u64,
    clear: u64,
    recursive: bool,
    recursive_readonly: bool,
    propagation: Option<Propagation>,
    data: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Options<'a> {
    fn read(options: &'a [String]) -> Self {
        let mut read = Self::default();
        for option in options {
            match option.as_str() {
                "ro" => read.attributes |= attr::RDONLY,
                "rw" => read.clear |= attr::RDONLY,
                "nosuid" => read.attributes |= attr::NOSUID,
                "nodev" => read.attributes |= attr::NODEV,
                "noexec" => read.attributes |= attr::NOEXEC,
                "noatime" => read.attributes |= attr::NOATIME,
                "suid" | "dev" | "exec" | "relatime" | "strictatime" | "bind" => {}
                "rbind" => read.recursive = true,
                "rro" => read.recursive_readonly = true,
                "private" | "rprivate" => read.propagation = Some(Propagation::Private),
                "slave" | "rslave" => read.propagation = Some(Propagation::Slave),
                "shared" | "rshared" => read.propagation = Some(Propagation::Shared),
                other => read.data.push(match other.split_once('=') {
                    Some((key, value)) => (key, Some(value)),
                    None => (other, None),
                }),
            }
        }
        read
    }
}

/// Makes the root and goes into it.
pub(super) fn enter(dir: &Path, spec: &Spec, views: &[(PathBuf, Option<String>)]) -> Result<(), String> {
    // Sources are cloned first: bidirectional ones must join their peer group before the rest is cut off.
    let sources = clone_sources(dir, spec)?;
    let views = if wants_cgroups(spec) { clone_views(views)? } else { Vec::new() };
    mount::make_root_slave().map_err(|e| e.line())?;
    let root = &spec.root.path;
    mount_root(dir, spec)?;
    let root_fd = sys::fs::open_dir(root).map_err(|e| e.line())?;
    sys::namespace::unshare(CloneFlags::NEWCGROUP).map_err(|e| e.line())?;
    for (entry, source) in spec.mounts.iter().zip(sources) {
        let done = match entry.kind.as_str() {
            "cgroup" => mount_cgroups(&root_fd, entry, &views),
            _ => mount_one(&root_fd, entry, source),
        };
        done.map_err(|e| format!("mount {} at {}: {e}", entry.source, entry.destination))?;
        if entry.destination == "/dev" {
            fill_dev(&root_fd, spec)?;
        }
    }
    if !spec.process.cwd.is_empty() {
        // As OCI runtimes do: a working directory that the image lacks is made.
        sys::fs::make_in_root(&root_fd, Path::new(&spec.process.cwd), Kind::Directory)
            .map_err(|e| format!("working directory: {}", e.line()))?;
    }
    drop(root_fd);
    mount::pivot(root).map_err(|e| e.line())
}

/// What has to wait until the standard streams are there: a root made read-only, masks.
pub(super) fn finish(spec: &Spec) -> Result<(), String> {
    for path in &spec.linux.readonly_paths {
        make_readonly(Path::new(path)).map_err(|e| format!("make {path} read-only: {}", e.line()))?;
    }
    for path in &spec.linux.masked_paths {
        mask(Path::new(path)).map_err(|e| format!("mask {path}: {}", e.line()))?;
    }
    if spec.root.readonly {
        let root = sys::fs::open_dir(Path::new("/")).map_err(|e| e.line())?;
        mount::set_attributes(&root, attr::RDONLY, 0, Propagation::Keep, false).map_err(|e| e.line())?;
    }
    Ok(())
}

/// Puts the container's terminal at /dev/console.
pub(super) fn mount_console(terminal: &OwnedFd) -> Result<(), String> {
    let tree = mount::clone_tree_at(terminal, Path::new(""), false).map_err(|e| e.line())?;
    let root = sys::fs::open_dir(Path::new("/")).map_err(|e| e.line())?;
    let place = sys::fs::make_in_root(&root, Path::new("/dev/console"), Kind::File).map_err(|e| e.line())?;
    mount::attach(tree, place).map_err(|e| e.line())
}

fn wants_cgroups(spec: &Spec) -> bool {
    spec.mounts.iter().any(|m| m.kind == "cgroup")
}

fn clone_sources(dir: &Path, spec: &Spec) -> Result<Vec<Option<OwnedFd>>, String> {
    let mut sources = Vec::with_capacity(spec.mounts.len());
    for (index, entry) in spec.mounts.iter().enumerate() {
        let source = match entry.kind.as_str() {
            "bind" => Some(clone_bind(entry)?),
            "image" => Some(image_tree(dir, index, entry)?),
            _ => None,
        };
        sources.push(source);
    }
    Ok(sources)
}

fn clone_bind(entry: &Mount) -> Result<OwnedFd, String> {
    let options = Options::read(&entry.options);
    let source = Path::new(&entry.source);
    if options.propagation == Some(Propagation::Shared) {
        require_shared(source)?;
    }
    let tree = mount::clone_tree(source, options.recursive).map_err(|e| e.line())?;
    let propagation = match options.propagation {
        // The clone is in its source's peer group already.
        Some(Propagation::Shared) => Propagation::Keep,
        other => other.unwrap_or(Propagation::Private),
    };
    mount::set_attributes(&tree, options.attributes, 0, propagation, false).map_err(|e| e.line())?;
    if options.recursive && propagation != Propagation::Keep {
        mount::set_attributes(&tree, 0, 0, propagation, true).map_err(|e| e.line())?;
    }
    if options.recursive_readonly {
        mount::set_attributes(&tree, attr::RDONLY, 0, Propagation::Keep, true).map_err(|e| e.line())?;
    }
    Ok(tree)
}

/// Upstream refuses bidirectional mounts of what is not shared: they would silently be private.
fn require_shared(source: &Path) -> Result<(), String> {
    let real = std::fs::canonicalize(source).map_err(|e| format!("resolve {}: {e}", source.display()))?;
    let table = mount::mount_table().map_err(|e| e.line())?;
    let on = table.iter().rev().filter(|m| real.starts_with(&m.target)).max_by_key(|m| m.target.as_os_str().len());
    match on {
        Some(m) if m.shared.is_some() => Ok(()),
        Some(m) => Err(format!(
            "path {:?} is mounted on {:?} but it is not a shared mount",
            source.display().to_string(),
            m.target.display().to_string()
        )),
        None => Err(format!("no mount holds {}", source.display())),
    }
}

/// An image's content as a read-only tree, the folder `subpath=` of it only.
fn image_tree(dir: &Path, index: usize, entry: &Mount) -> Result<OwnedFd, String> {
    let place = dir.join(format!("image-{index}"));
    let empty = dir.join("empty");
    for d in [&place, &empty] {
        std::fs::create_dir_all(d).map_err(|e| format!("make {}: {e}", d.display()))?;
    }
    let (layers_dir, mut lowers) = lower_names(&entry.layers);
    // An overlay without an upper needs two layers.
    while lowers.len() < 2 {
        lowers.push(if lowers.is_empty() { empty.display().to_string() } else { empty_lower(&empty) });
    }
    mount::overlay(&place, &layers_dir, &lowers, None, u64::from(libc_ro())).map_err(|e| e.line())?;
    let sub_path = entry.options.iter().find_map(|o| o.strip_prefix("subpath=")).unwrap_or("");
    let root = sys::fs::open_dir(&place).map_err(|e| e.line())?;
    let inside = sys::fs::open_in_root(&root, Path::new(sub_path), rustix::fs::OFlags::PATH).map_err(|e| e.line())?;
    let tree = mount::clone_tree_at(&inside, Path::new(""), false).map_err(|e| e.line())?;
    let options = Options::read(&entry.options);
    mount::set_attributes(&tree, options.attributes | attr::RDONLY, 0, Propagation::Private, false)
        .map_err(|e| e.line())?;
    Ok(tree)
}

fn empty_lower(empty: &Path) -> String {
    empty.display().to_string()
}

const fn libc_ro() -> u32 {
    1 // MS_RDONLY
}

/// Mounts the overlay of the image and the container's own layer.
fn mount_root(dir: &Path, spec: &Spec) -> Result<(), String> {
    let (layers_dir, mut lowers) = lower_names(&spec.corten.layers);
    if lowers.is_empty() {
        let empty = dir.join("empty");
        std::fs::create_dir_all(&empty).map_err(|e| format!("make {}: {e}", empty.display()))?;
        lowers.push(empty.display().to_string());
    }
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    mount::overlay(&spec.root.path, &layers_dir, &lowers, Some((&upper, &work)), 0).map_err(|e| e.line())
}

/// Layers as names below their common directory, the topmost first.
fn lower_names(layers: &[PathBuf]) -> (PathBuf, Vec<String>) {
    let parent = layers.first().and_then(|l| l.parent()).unwrap_or(Path::new("/")).to_owned();
    let names = layers.iter().rev().map(|layer| match layer.strip_prefix(&parent) {
        Ok(name) => name.display().to_string(),
        Err(_) => layer.display().to_string(),
    });
    let names = names.collect();
    (parent, names)
}

fn mount_one(root: &OwnedFd, entry: &Mount, source: Option<OwnedFd>) -> Result<(), String> {
    let options = Options::read(&entry.options);
    let tree = match source {
        Some(tree) => tree,
        None => mount::new_filesystem(&entry.kind, &entry.source, &options.data, options.attributes)
            .map_err(|e| e.line())?,
    };
    let directory = rustix::fs::fstat(&tree).map_err(|e| e.to_string())?.st_mode & 0o170_000 == 0o040_000;
    let kind = if directory { Kind::Directory } else { Kind::File };
    let place = sys::fs::make_in_root(root, Path::new(&entry.destination), kind).map_err(|e| e.line())?;
    mount::attach(tree, place).map_err(|e| e.line())
}

/// The container's own groups, cloned while the node's mounts are still in sight.
fn clone_views(views: &[(PathBuf, Option<String>)]) -> Result<Vec<(OwnedFd, Option<String>)>, String> {
    let clone = |(path, name): &(PathBuf, Option<String>)| {
        let tree = mount::clone_tree(path, false).map_err(|e| e.line())?;
        mount::set_attributes(&tree, 0, 0, Propagation::Private, false).map_err(|e| e.line())?;
        Ok((tree, name.clone()))
    };
    views.iter().map(clone).collect()
}

/// /sys/fs/cgroup: on v2 the container's group itself; else a tmpfs with one folder per hierarchy, always read-only.
fn mount_cgroups(root: &OwnedFd, entry: &Mount, views: &[(OwnedFd, Option<String>)]) -> Result<(), String> {
    const SAFE: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let options = Options::read(&entry.options);
    let target = Path::new(&entry.destination);
    let place = sys::fs::make_in_root(root, target, Kind::Directory).map_err(|e| e.line())?;
    if let [(tree, None)] = views {
        let readonly = options.attributes & attr::RDONLY;
        mount::set_attributes(tree, SAFE | readonly, 0, Propagation::Keep, false).map_err(|e| e.line())?;
        return mount::attach(tree, place).map_err(|e| e.line());
    }
    let tmpfs = mount::new_filesystem("tmpfs", "tmpfs", &[("mode", Some("755"))], SAFE).map_err(|e| e.line())?;
    mount::attach(&tmpfs, place).map_err(|e| e.line())?;
    for (tree, name) in views {
        let Some(name) = name else { continue };
        mount::set_attributes(tree, SAFE | attr::RDONLY, 0, Propagation::Keep, false).map_err(|e| e.line())?;
        let place = sys::fs::make_in_root(root, &target.join(name), Kind::Directory).map_err(|e| e.line())?;
        mount::attach(tree, place).map_err(|e| e.line())?;
        if name.contains(',') {
            // Controllers mounted together are looked for under each name.
            let dir = sys::fs::open_in_root(root, target, rustix::fs::OFlags::PATH).map_err(|e| e.line())?;
            for one in name.split(',') {
                rustix::fs::symlinkat(name.as_str(), &dir, one).map_err(|e| format!("link {one}: {e}"))?;
            }
        }
    }
    mount::set_attributes(&tmpfs, attr::RDONLY, 0, Propagation::Keep, false).map_err(|e| e.line())
}

/// Nodes and links that every /dev has, and those of the spec.
fn fill_dev(root: &OwnedFd, spec: &Spec) -> Result<(), String> {
    let dev = sys::fs::open_in_root(root, Path::new("/dev"), rustix::fs::OFlags::PATH).map_err(|e| e.line())?;
    const NODES: [(&str, u32, u32); 6] =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in NODES {
        let node = DeviceNode { kind: DeviceKind::Char, major, minor, mode: 0o666, uid: 0, gid: 0 };
        sys::devices::make(&dev, name, &node).map_err(|e| e.line())?;
    }
    const LINKS: [(&str, &str); 6] = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(format!("link /dev/{name}: {error}")),
        }
    }
    for device in &spec.linux.devices {
        let path = Path::new(&device.path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(format!("device {}: not a path", device.path));
        };
        let parent = sys::fs::make_in_root(root, parent, Kind::Directory).map_err(|e| e.line())?;
        let kind = if device.kind == "b" { DeviceKind::Block } else { DeviceKind::Char };
        let (major, minor, mode) = (device.major, device.minor, device.file_mode);
        let node = DeviceNode { kind, major, minor, mode, uid: device.uid, gid: device.gid };
        sys::devices::make(parent.as_fd(), &name.to_string_lossy(), &node).map_err(|e| e.line())?;
    }
    Ok(())
}

/// Hides a path: a file by /dev/null, a directory by an empty one. What is not there needs no hiding.
fn mask(path: &Path) -> sys::Result<()> {
    let place = match sys::fs::open_path(path) {
        Err(error) if error.is_not_found() || error.errno() == Some(20) => return Ok(()), // ENOTDIR
        other => other?,
    };
    let directory = std::fs::metadata(path).is_ok_and(|m| m.is_dir());
    let tree = if directory {
        mount::new_filesystem("tmpfs", "tmpfs", &[("size", Some("0"))], attr::RDONLY)?
    } else {
        mount::clone_tree(Path::new("/dev/null"), false)?
    };
    mount::attach(tree, place)
}

fn make_readonly(path: &Path) -> sys::Result<()> {
    let place = match sys::fs::open_path(path) {
        Err(error) if error.is_not_found() || error.errno() == Some(20) => return Ok(()), // ENOTDIR
        other => other?,
    };
    let tree = mount::clone_tree(path, true)?;
    const SAFE: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;
    mount::set_attributes(&tree, attr::RDONLY | SAFE, 0, Propagation::Keep, false)?;
    mount::attach(tree, place)
}
