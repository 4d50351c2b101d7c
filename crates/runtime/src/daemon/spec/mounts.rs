//! The mounts of a container: those every one has, and those configured.

use std::path::Path;

use node_api::{ContainerConfig, Error, MountPropagation, NamespaceMode, Result};

use super::super::Inner;
use super::super::records::Pod;
use crate::spec::Mount;

impl Inner {
    /// All mounts in the order they are made: a path before what lies below it. Also gives the ids of images that
    /// are mounted as volumes.
    pub(super) async fn mounts(&self, pod: &Pod, config: &ContainerConfig) -> Result<(Vec<Mount>, Vec<String>)> {
        let mut mounts = default_mounts(pod, config);
        let mut volume_images = Vec::new();
        for mount in &config.mounts {
            let destination = normal(&mount.container_path)?;
            mounts.retain(|m| m.destination != destination);
            if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
                return Err(Error::Unsupported("idmapped mounts are not supported".to_owned()));
            }
            let built = match &mount.image {
                Some(image) => {
                    let content = self.options.images.content(image).await?;
                    volume_images.push(content.id.clone());
                    let sub_path = mount.image_sub_path.trim_start_matches('/');
                    if Path::new(sub_path).components().any(|c| c == std::path::Component::ParentDir) {
                        return Err(Error::InvalidArgument(format!("image sub path {sub_path:?} has \"..\"")));
                    }
                    let mut options = vec!["ro".to_owned()];
                    if !sub_path.is_empty() {
                        options.push(format!("subpath={sub_path}"));
                    }
                    Mount { destination, kind: "image".to_owned(), source: content.id, options, layers: content.layers }
                }
                None => bind(mount, destination)?,
            };
            mounts.push(built);
        }
        mounts.sort_by_key(|m| Path::new(&m.destination).components().count());
        Ok((mounts, volume_images))
    }
}

/// An absolute path without `.`, double or trailing slashes.
fn normal(path: &str) -> Result<String> {
    let mut out = String::new();
    for part in Path::new(path).components() {
        match part {
            std::path::Component::Normal(name) => {
                out.push('/');
                out.push_str(&name.to_string_lossy());
            }
            std::path::Component::RootDir | std::path::Component::CurDir => {}
            _ => return Err(Error::InvalidArgument(format!("mount path {path:?} has \"..\""))),
        }
    }
    if out.is_empty() {
        return Err(Error::InvalidArgument(format!("cannot mount at {path:?}")));
    }
    Ok(out)
}

fn bind(mount: &node_api::Mount, destination: String) -> Result<Mount> {
    let source = Path::new(&mount.host_path);
    if !source.exists() {
        // A hostPath of no type: made as a directory, as container runtimes do.
        std::fs::create_dir_all(source).map_err(|e| Error::Container {
            context: format!("failed to mkdir {:?}", mount.host_path),
            source: Some(e.into()),
        })?;
    }
    let source = std::fs::canonicalize(source).map_err(|e| Error::Container {
        context: format!("resolve mount source {:?}", mount.host_path),
        source: Some(e.into()),
    })?;
    let propagation = match mount.propagation {
        MountPropagation::Private => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => "rshared",
    };
    let mut options = vec!["rbind".to_owned(), propagation.to_owned()];
    if mount.recursive_read_only {
        if !mount.readonly || mount.propagation != MountPropagation::Private {
            return Err(Error::InvalidArgument(format!(
                "recursive read-only mount of {:?} must be read-only and private",
                mount.container_path
            )));
        }
        options.push("rro".to_owned());
    }
    options.push(if mount.readonly { "ro" } else { "rw" }.to_owned());
    let source = source.display().to_string();
    Ok(Mount { destination, kind: "bind".to_owned(), source, options, layers: Vec::new() })
}

fn default_mounts(pod: &Pod, config: &ContainerConfig) -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        layers: Vec::new(),
    };
    let security = &config.linux.security_context;
    let sys_mode = if security.privileged { "rw" } else { "ro" };
    let file_mode = if security.readonly_rootfs { "ro" } else { "rw" };
    let shm = match pod.record.config.linux.security_context.namespace_options.ipc {
        NamespaceMode::Node => "/dev/shm".to_owned(),
        _ => pod.dir.join("shm").display().to_string(),
    };
    let file = |name: &str| pod.dir.join(name).display().to_string();
    let bind =
        |destination: &str, source: &str, mode: &str| mount(destination, "bind", source, &["rbind", "rprivate", mode]);
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys_mode]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "bind", &shm, &["rbind", "rprivate", "rw"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", sys_mode]),
        bind("/etc/resolv.conf", &file("resolv.conf"), file_mode),
        bind("/etc/hostname", &file("hostname"), file_mode),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn destinations() {
        for (path, expect) in
            [("/a/b/", Some("/a/b")), ("a//./b", Some("/a/b")), ("/..", None), ("/", None), ("", None)]
        {
            assert_eq!(super::normal(path).ok().as_deref(), expect, "{path:?}");
        }
    }
}
