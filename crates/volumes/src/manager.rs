//! All volumes of a pod, through the table of plugins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rt::time::Timestamp;

use crate::fields::Facts;
use crate::k8s::core::{Pod, Volume};
use crate::plugins::{self, Plugin};
use crate::{Error, Objects, Result, mounts, subpath, teardown};

/// Where volumes live.
#[derive(Debug, Clone)]
pub struct VolumesConfig {
    /// `<root>/pods`.
    pub pods_dir: PathBuf,
    /// The tmpfs that all secrets, tokens and projections share.
    pub memory_dir: PathBuf,
}

/// A pod and what its volumes may refer to.
#[derive(Debug, Clone)]
pub struct PodContext {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its directory, `<pods>/<uid>`.
    pub dir: PathBuf,
    /// Its part of the shared tmpfs.
    pub memory_dir: PathBuf,
    /// Addresses and allocatable resources.
    pub facts: Facts,
}

impl PodContext {
    /// The pod's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The group that volumes are given to.
    #[must_use]
    pub fn fs_group(&self) -> Option<u32> {
        let security = self.pod.spec.as_ref()?.security_context.as_ref()?;
        security.fs_group.and_then(|group| u32::try_from(group).ok())
    }

    /// The one user all containers run as, where the pod's spec says so: tokens are then given to it.
    #[must_use]
    pub fn fs_user(&self) -> Option<u32> {
        let spec = self.pod.spec.as_ref()?;
        let of_pod = spec.security_context.as_ref().and_then(|s| s.run_as_user);
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let mut users = all.map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
        let first = users.next()??;
        users.all(|user| user == Some(first)).then_some(first).and_then(|user| u32::try_from(user).ok())
    }

    /// A directory on disk for a volume.
    #[must_use]
    pub fn disk_path(&self, plugin: &str, volume: &str) -> PathBuf {
        self.dir.join("volumes").join(plugin).join(volume)
    }

    /// A directory in memory for a volume.
    #[must_use]
    pub fn memory_path(&self, plugin: &str, volume: &str) -> PathBuf {
        self.memory_dir.join(plugin).join(volume)
    }
}

/// A volume in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounted {
    /// Its content on the node; empty for image volumes, which the runtime mounts.
    pub path: PathBuf,
    /// Whether it may only be mounted read-only.
    pub read_only: bool,
    /// When it has to be set up again, for tokens.
    pub refresh_at: Option<Timestamp>,
    /// The image of an image volume, and its pull policy.
    pub image: Option<(String, Option<String>)>,
}

/// The table of plugins with what they need.
pub struct Volumes {
    config: VolumesConfig,
}

impl Volumes {
    /// Makes the directories, and the shared tmpfs where none is mounted yet.
    pub fn new(config: VolumesConfig) -> Result<Self> {
        std::fs::create_dir_all(&config.pods_dir).map_err(|e| Error::io("creating", &config.pods_dir, e))?;
        std::fs::create_dir_all(&config.memory_dir).map_err(|e| Error::io("creating", &config.memory_dir, e))?;
        if !mounts::is_mount_point(&config.memory_dir)?
            && let Err(error) = mounts::mount_tmpfs(&config.memory_dir, None)
        {
            // Without the right to mount, secrets still have to work; the operator is told.
            tracing::warn!(error = %error, "secrets will be kept on disk");
        }
        Ok(Self { config })
    }

    /// The context of a pod.
    #[must_use]
    pub fn context(&self, pod: Arc<Pod>, facts: Facts) -> PodContext {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        PodContext { dir: self.config.pods_dir.join(&uid), memory_dir: self.config.memory_dir.join(&uid), pod, facts }
    }

    /// Brings all volumes of the pod to the wanted state, concurrently.
    ///
    /// # Errors
    /// One error per volume that failed, with the volume's name.
    pub async fn set_up(
        &self,
        cx: &PodContext,
        objects: &dyn Objects,
    ) -> Result<BTreeMap<String, Mounted>, Vec<(String, Error)>> {
        let volumes = cx.pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        let all = volumes.iter().map(|volume| async move { (volume, set_up_one(cx, volume, objects).await) });
        let (mut mounted, mut failed) = (BTreeMap::new(), Vec::new());
        for (volume, result) in futures::future::join_all(all).await {
            match result {
                Ok(done) => {
                    mounted.insert(volume.name.clone(), done);
                }
                Err(error) => failed.push((volume.name.clone(), error)),
            }
        }
        if failed.is_empty() { Ok(mounted) } else { Err(failed) }
    }

    /// Whether any volume follows ConfigMaps, Secrets or pod fields, and so must be set up again on their change.
    #[must_use]
    pub fn follows_objects(pod: &Pod) -> bool {
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        volumes.iter().any(|volume| {
            volume.config_map.is_some()
                || volume.secret.is_some()
                || volume.projected.is_some()
                || volume.downward_api.is_some()
        })
    }

    /// Binds part of a volume for one mount of a container; gives the path to mount.
    pub fn sub_path(
        &self,
        cx: &PodContext,
        volume: &str,
        root: &Path,
        part: &str,
        container: &str,
        index: usize,
    ) -> Result<PathBuf> {
        let target = subpath::target(&cx.dir, volume, container, index);
        subpath::bind(root, part, &target)?;
        Ok(target)
    }

    /// Unmounts and removes all volumes of a pod.
    pub async fn tear_down(&self, uid: &str) -> Result<()> {
        let (dir, memory) = (self.config.pods_dir.join(uid), self.config.memory_dir.join(uid));
        match rt::spawn_blocking(move || teardown::pod(&dir, &memory)).await {
            Ok(result) => result,
            Err(error) => Err(Error::Invalid(format!("teardown ended early: {error}"))),
        }
    }
}

async fn set_up_one(cx: &PodContext, volume: &Volume, objects: &dyn Objects) -> Result<Mounted> {
    let plugin = find(volume).ok_or_else(|| {
        Error::Unsupported(format!(
            "no volume plugin matched volume {:?}: this kind of source is not supported",
            volume.name
        ))
    })?;
    plugin.set_up(cx, volume, objects).await
}

fn find(volume: &Volume) -> Option<&'static dyn Plugin> {
    plugins::PLUGINS.iter().copied().find(|plugin| plugin.serves(volume))
}
