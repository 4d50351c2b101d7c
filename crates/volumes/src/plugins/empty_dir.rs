//! `emptyDir`: a fresh directory, on disk or in memory, that lives as long as the pod.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use async_trait::async_trait;

use super::Plugin;
use crate::k8s::core::Volume;
use crate::{Error, Mounted, Objects, PodContext, Result, mounts, ownership, quantity};

/// See the module.
pub struct EmptyDir;

#[async_trait]
impl Plugin for EmptyDir {
    fn name(&self) -> &'static str {
        "kubernetes.io/empty-dir"
    }

    fn serves(&self, volume: &Volume) -> bool {
        volume.empty_dir.is_some() || has_no_source(volume)
    }

    async fn set_up(&self, cx: &PodContext, volume: &Volume, _objects: &dyn Objects) -> Result<Mounted> {
        let path = cx.disk_path("kubernetes.io~empty-dir", &volume.name);
        let mounted = Mounted { path: path.clone(), ..Mounted::default() };
        let source = volume.empty_dir.clone().unwrap_or_default();
        let medium = source.medium.unwrap_or_default();
        let existed = path.exists();
        if existed && (medium.is_empty() || mounts::is_mount_point(&path)?) {
            return Ok(mounted);
        }
        fs::create_dir_all(&path).map_err(|e| Error::io("creating", &path, e))?;
        match medium.as_str() {
            "" => {}
            "Memory" => mounts::mount_tmpfs(&path, memory_size(cx, source.size_limit.as_ref()))?,
            medium => return Err(Error::Unsupported(format!("unknown storage medium {medium:?}"))),
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777))
            .map_err(|e| Error::io("setting mode of", &path, e))?;
        if let Some(group) = cx.fs_group() {
            ownership::apply(&path, group, false, ownership::ChangePolicy::Always)?;
        }
        Ok(mounted)
    }
}

/// A tmpfs is as large as its own limit, but never larger than the pod's memory limit or the node.
fn memory_size(cx: &PodContext, limit: Option<&crate::k8s::Quantity>) -> Option<u64> {
    let own = limit.map(|q| quantity::parse(q).value()).filter(|v| *v > 0);
    let node = cx.facts.allocatable.get("memory").map(|q| quantity::parse(q).value()).filter(|v| *v > 0);
    let spec = cx.pod.spec.as_ref();
    let containers = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
    let limits =
        containers.iter().map(|c| quantity::value(c.resources.as_ref().and_then(|r| r.limits.as_ref()), "memory"));
    let of_pod = limits.sum::<Option<i64>>().filter(|v| *v > 0);
    [own, node, of_pod].into_iter().flatten().min().and_then(|v| u64::try_from(v).ok())
}

/// The API takes a volume without any source as an emptyDir.
fn has_no_source(volume: &Volume) -> bool {
    *volume == Volume { name: volume.name.clone(), ..Volume::default() }
}
