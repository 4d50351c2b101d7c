//! The table of volume plugins. A new one is a file here and a row.

use async_trait::async_trait;

use crate::k8s::core::Volume;
use crate::{Mounted, Objects, PodContext, Result};

mod config_map;
mod downward_api;
mod empty_dir;
mod host_path;
mod image;
mod persistent;
mod projected;
mod secret;

pub use projected::refresh_time;

/// One kind of volume source.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name of the plugin.
    fn name(&self) -> &'static str;
    /// Whether it serves the volume.
    fn serves(&self, volume: &Volume) -> bool;
    /// Brings the volume to the wanted state. Idempotent; a failed call leaves the former state.
    async fn set_up(&self, cx: &PodContext, volume: &Volume, objects: &dyn Objects) -> Result<Mounted>;
}

/// All plugins.
pub static PLUGINS: &[&dyn Plugin] = &[
    &projected::Projected,
    &config_map::ConfigMapPlugin,
    &secret::SecretPlugin,
    &downward_api::DownwardApi,
    &empty_dir::EmptyDir,
    &host_path::HostPath,
    &persistent::Claim,
    &image::Image,
];

/// Writes a payload into a directory of a plugin, with the pod's group.
fn project(cx: &PodContext, dir: std::path::PathBuf, payload: &crate::Payload) -> Result<Mounted> {
    use std::os::unix::fs::PermissionsExt;
    if !dir.exists() {
        std::fs::create_dir_all(&dir).map_err(|e| crate::Error::io("creating", &dir, e))?;
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&dir, open).map_err(|e| crate::Error::io("setting mode of", &dir, e))?;
    }
    let group = cx.fs_group();
    crate::atomic::write(&dir, payload, |fresh| match group {
        Some(group) => crate::ownership::apply(fresh, group, true, crate::ownership::ChangePolicy::Always),
        None => Ok(()),
    })?;
    if let Some(group) = group {
        let _ = std::os::unix::fs::lchown(&dir, None, Some(group));
        let mode = std::fs::Permissions::from_mode(0o2777);
        std::fs::set_permissions(&dir, mode).map_err(|e| crate::Error::io("setting mode of", &dir, e))?;
    }
    Ok(Mounted { path: dir, read_only: true, ..Mounted::default() })
}
