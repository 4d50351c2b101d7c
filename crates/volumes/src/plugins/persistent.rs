//! `persistentVolumeClaim`, for volumes that are a path of this node: `local` and `hostPath` persistent volumes.

use std::fs;
use std::path::Path;

use async_trait::async_trait;

use super::{Plugin, host_path};
use crate::k8s::core::{PersistentVolume, Volume};
use crate::ownership::{self, ChangePolicy};
use crate::{Error, Mounted, Objects, PodContext, Result, mounts};

/// See the module.
pub struct Claim;

#[async_trait]
impl Plugin for Claim {
    fn name(&self) -> &'static str {
        "kubernetes.io/persistent-claim"
    }

    fn serves(&self, volume: &Volume) -> bool {
        volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
    }

    async fn set_up(&self, cx: &PodContext, volume: &Volume, objects: &dyn Objects) -> Result<Mounted> {
        let (name, read_only) = match &volume.persistent_volume_claim {
            Some(source) => (source.claim_name.clone(), source.read_only.unwrap_or(false)),
            None => (format!("{}-{}", cx.pod.metadata.name.as_deref().unwrap_or_default(), volume.name), false),
        };
        let claim = objects.claim(cx.namespace(), &name).await?;
        let bound = claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let pv_name = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|n| !n.is_empty() && bound);
        let Some(pv_name) = pv_name else {
            return Err(Error::Invalid(format!("PVC {}/{name} is not bound", cx.namespace())));
        };
        let pv = objects.persistent_volume(&pv_name).await?;
        let spec = pv.spec.clone().unwrap_or_default();
        let claimed = spec.claim_ref.as_ref().and_then(|r| r.uid.clone());
        if claimed.is_some() && claimed != claim.metadata.uid {
            return Err(Error::Invalid(format!("persistentvolume {pv_name} is bound to another claim than {name}")));
        }
        if let Some(source) = &spec.host_path {
            host_path::check(&source.path, source.type_.as_deref().unwrap_or_default())?;
            return Ok(Mounted { path: source.path.clone().into(), read_only, ..Mounted::default() });
        }
        if let Some(source) = &spec.local {
            return local(cx, &pv, Path::new(&source.path), read_only);
        }
        Err(Error::Unsupported(format!("persistentvolume {pv_name} is of a kind that this node has no plugin for")))
    }
}

fn local(cx: &PodContext, pv: &PersistentVolume, source: &Path, read_only: bool) -> Result<Mounted> {
    let name = pv.metadata.name.as_deref().unwrap_or_default();
    let meta = fs::metadata(source).map_err(|e| Error::io("examining", source, e))?;
    if !meta.is_dir() {
        return Err(Error::Unsupported(format!("local volume path {} is not a directory", source.display())));
    }
    let target = cx.disk_path("kubernetes.io~local-volume", name);
    if !target.exists() || !mounts::is_mount_point(&target)? {
        fs::create_dir_all(&target).map_err(|e| Error::io("creating", &target, e))?;
        mounts::bind_recursive(source, &target)?;
        if let Some(group) = cx.fs_group().filter(|_| !read_only) {
            let security = cx.pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
            let policy = match security.and_then(|s| s.fs_group_change_policy.as_deref()) {
                Some("OnRootMismatch") => ChangePolicy::OnRootMismatch,
                _ => ChangePolicy::Always,
            };
            ownership::apply(&target, group, false, policy)?;
        }
    }
    Ok(Mounted { path: target, read_only, ..Mounted::default() })
}
