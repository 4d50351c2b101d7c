//! Taking volumes down by what is on disk, so that it works after a restart and without the pod's object.

use std::fs;
use std::path::Path;

use crate::{Error, Result, mounts};

/// Plugins whose directories hold nothing but what the pod wrote or the kubelet projected: they are removed whole. What
/// lies behind any other plugin belongs to somebody else and is only unmounted.
const OWNED: &[&str] = &[
    "kubernetes.io~empty-dir",
    "kubernetes.io~configmap",
    "kubernetes.io~secret",
    "kubernetes.io~projected",
    "kubernetes.io~downward-api",
];

/// Unmounts and removes everything of a pod: `pod_dir` is `<pods>/<uid>`, `memory_dir` its part of the shared tmpfs.
pub fn pod(pod_dir: &Path, memory_dir: &Path) -> Result<()> {
    if pod_dir.join("volumes").exists() || pod_dir.join("volume-subpaths").exists() {
        for point in mounts::mounts_below(pod_dir)? {
            mounts::unmount(&point)?;
        }
        // Whoever mounts while we unmount keeps its content: nothing below a live mount may be deleted.
        if let Some(left) = mounts::mounts_below(pod_dir)?.first() {
            return Err(Error::Invalid(format!("{} is still mounted", left.display())));
        }
        remove_volumes(&pod_dir.join("volumes"))?;
        remove_tree(&pod_dir.join("volume-subpaths"))?;
    }
    remove_tree(memory_dir)
}

fn remove_volumes(dir: &Path) -> Result<()> {
    let plugins = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io("listing", dir, e)),
    };
    for plugin in plugins {
        let plugin = plugin.map_err(|e| Error::io("listing", dir, e))?;
        if OWNED.iter().any(|name| plugin.file_name() == *name) {
            remove_tree(&plugin.path())?;
            continue;
        }
        for volume in fs::read_dir(plugin.path()).map_err(|e| Error::io("listing", plugin.path(), e))? {
            let path = volume.map_err(|e| Error::io("listing", plugin.path(), e))?.path();
            fs::remove_dir(&path).map_err(|e| Error::io("removing", path, e))?;
        }
        fs::remove_dir(plugin.path()).map_err(|e| Error::io("removing", plugin.path(), e))?;
    }
    fs::remove_dir(dir).map_err(|e| Error::io("removing", dir, e))
}

/// Removes a tree; absent is fine.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("removing", path, e)),
    }
}
