//! What the daemon knows of pods and containers, and how that is kept on disk.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use node_api::{ContainerConfig, ContainerUser, Error, LinuxResources, PodSandboxConfig, Result};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::link::Link;
use crate::proto::{Phase, Run};

pub(super) const SANDBOX_FILE: &str = "sandbox.json";
pub(super) const POD_STATE_FILE: &str = "state.json";
pub(super) const CONTAINER_FILE: &str = "container.json";
pub(super) const SPEC_FILE: &str = "spec.json";

/// A sandbox as it was made; never changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SandboxRecord {
    pub(super) config: PodSandboxConfig,
    pub(super) runtime_handler: String,
    pub(super) created_at: i64,
    pub(super) netns: Option<PathBuf>,
    /// The pod's group: the one given, or one of our own.
    pub(super) cgroup: String,
}

/// What changes of a sandbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PodState {
    pub(super) ips: Vec<IpAddr>,
    pub(super) network_up: bool,
    /// It was made completely; otherwise a daemon ended while making it.
    pub(super) started: bool,
    pub(super) stopped: bool,
}

/// A sandbox.
pub(super) struct Pod {
    pub(super) id: String,
    pub(super) dir: PathBuf,
    pub(super) record: SandboxRecord,
    pub(super) state: Mutex<PodState>,
    /// The supervisor; `None` once it is gone.
    pub(super) link: watch::Sender<Option<Arc<Link>>>,
    /// Stop and remove of a pod one after the other.
    pub(super) ending: tokio::sync::Mutex<()>,
}

impl Pod {
    pub(super) fn new(id: String, dir: PathBuf, record: SandboxRecord, state: PodState) -> Self {
        let (link, _) = watch::channel(None);
        Self { id, dir, record, state: Mutex::new(state), link, ending: tokio::sync::Mutex::new(()) }
    }

    pub(super) fn ready(&self) -> bool {
        self.link.borrow().is_some() && !self.state.lock().stopped
    }

    /// The supervisor's link.
    pub(super) fn link(&self) -> Result<Arc<Link>> {
        let link = self.link.borrow().clone();
        link.ok_or_else(|| Error::FailedPrecondition(format!("sandbox {} is not running", self.id)))
    }

    pub(super) fn save_state(&self) -> Result<()> {
        let state = self.state.lock().clone();
        write_json(&self.dir.join(POD_STATE_FILE), &state)
    }

    /// Whether the pod's group is ours to remove.
    pub(super) fn owns_cgroup(&self) -> bool {
        self.record.config.linux.cgroup_parent.is_empty()
    }

    pub(super) fn container_dir(&self, id: &str) -> PathBuf {
        self.dir.join(crate::supervisor::CONTAINERS_DIR).join(id)
    }
}

/// A container as it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) config: ContainerConfig,
    pub(super) created_at: i64,
    pub(super) image_id: String,
    pub(super) image_ref: String,
    #[serde(default)]
    pub(super) image_name: String,
    pub(super) user: ContainerUser,
    pub(super) stop_signal: String,
    pub(super) log_path: PathBuf,
    pub(super) cgroup: String,
}

/// A container.
pub(super) struct ContainerEntry {
    pub(super) id: String,
    pub(super) pod: Arc<Pod>,
    pub(super) record: ContainerRecord,
    pub(super) resources: Mutex<LinuxResources>,
    pub(super) run: watch::Sender<Run>,
}

impl ContainerEntry {
    pub(super) fn new(id: String, pod: Arc<Pod>, record: ContainerRecord, run: Run) -> Self {
        let resources = Mutex::new(record.config.linux.resources.clone());
        let (run, _) = watch::channel(run);
        Self { id, pod, record, resources, run }
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.pod.container_dir(&self.id)
    }

    pub(super) fn phase(&self) -> Phase {
        self.run.borrow().phase
    }
}

pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|e| Error::internal(format!("encode {}", path.display()), e))?;
    sys::fs::write_atomic(path, &text).map_err(super::sys_error)
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).map_err(|e| Error::internal(format!("read {}", path.display()), e))?;
    serde_json::from_slice(&text).map_err(|e| Error::internal(format!("decode {}", path.display()), e))
}
