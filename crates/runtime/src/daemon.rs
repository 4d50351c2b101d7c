//! The daemon's half: decides what runs, keeps what is known, talks to the supervisors.

mod attach;
mod containers;
mod events;
mod ids;
mod link;
mod pods;
mod records;
mod recover;
mod service;
mod spec;
mod stats;
mod stream;
mod supervise;
mod user;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use node_api::{ContainerEvent, Error, ImageSource, NetworkService, Result};
use parking_lot::Mutex;
use sys::cgroup::Hierarchies;
use tokio::sync::broadcast;

use self::records::{ContainerEntry, Pod};

/// Events kept for a slow subscriber before it is told that it missed some.
const EVENT_QUEUE: usize = 4096;

/// How the runtime is to work.
#[derive(Clone)]
pub struct Options {
    /// Where images come from.
    pub images: Arc<dyn ImageSource>,
    /// The pod network; `None` leaves pods with a loopback only, and the network condition false.
    pub network: Option<Arc<dyn NetworkService>>,
    /// The program that is the supervisor when its name (argv 0) is `corten-supervisor`. The default is this binary.
    pub supervisor: PathBuf,
    /// Runtime handlers (RuntimeClass) that this runtime answers for, besides the empty one.
    pub handlers: Vec<String>,
    /// What `version` says.
    pub version: String,
}

impl Options {
    /// Defaults around an image source.
    #[must_use]
    pub fn new(images: Arc<dyn ImageSource>) -> Self {
        Self {
            images,
            network: None,
            supervisor: PathBuf::from("/proc/self/exe"),
            handlers: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The container runtime of a node; cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    root: PathBuf,
    options: Options,
    hierarchies: Hierarchies,
    bounding: u64,
    pods: Mutex<HashMap<String, Arc<Pod>>>,
    containers: Mutex<HashMap<String, Arc<ContainerEntry>>>,
    events: broadcast::Sender<ContainerEvent>,
    /// Programs of the default profile by capabilities: compiling takes longer than all else of a create.
    default_filters: Mutex<HashMap<u64, Vec<PathBuf>>>,
    _lock: std::fs::File,
}

impl Runtime {
    /// Opens the runtime whose state is below `root` (made where it is missing), and finds again every pod that an
    /// earlier daemon left, running or not.
    ///
    /// # Errors
    /// Another daemon has this root; no cgroups; files that cannot be read or written.
    pub async fn open(root: impl AsRef<Path>, options: Options) -> Result<Self> {
        let root = root.as_ref().to_owned();
        for dir in ["pods", "netns", "seccomp"] {
            let dir = root.join(dir);
            std::fs::create_dir_all(&dir).map_err(|e| Error::internal(format!("make {}", dir.display()), e))?;
        }
        let root = std::fs::canonicalize(&root).map_err(|e| Error::internal("resolve the runtime's root", e))?;
        let lock = sys::fs::try_lock(&root.join("daemon.lock")).map_err(|e| Error::internal("lock", e))?;
        let Some(lock) = lock else {
            return Err(Error::FailedPrecondition(format!("another process has the runtime at {}", root.display())));
        };
        let hierarchies = Hierarchies::detect().map_err(|e| Error::internal("find cgroups", e))?;
        let bounding = sys::caps::bounding().map_err(|e| Error::internal("read capabilities", e))?;
        if bounding & 1 << sys::caps::SYS_RESOURCE == 0 {
            tracing::warn!("CAP_SYS_RESOURCE is missing: negative OOM scores and raised limits are clamped");
        }
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let inner = Arc::new(Inner {
            root,
            options,
            hierarchies,
            bounding,
            pods: Mutex::default(),
            containers: Mutex::default(),
            events,
            default_filters: Mutex::default(),
            _lock: lock,
        });
        inner.recover().await?;
        Ok(Self(inner))
    }

    /// The pinned network namespace of a sandbox, where it has its own.
    #[must_use]
    pub fn netns(&self, sandbox_id: &str) -> Option<PathBuf> {
        self.0.pods.lock().get(sandbox_id).and_then(|pod| pod.record.netns.clone())
    }
}

impl Inner {
    fn pods_dir(&self) -> PathBuf {
        self.root.join("pods")
    }

    fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        let found = self.pods.lock().get(id).cloned();
        found.ok_or_else(|| Error::NotFound { what: "pod sandbox", id: id.to_owned() })
    }

    fn container(&self, id: &str) -> Result<Arc<ContainerEntry>> {
        let found = self.containers.lock().get(id).cloned();
        found.ok_or_else(|| Error::NotFound { what: "container", id: id.to_owned() })
    }

    fn containers_of(&self, pod: &str) -> Vec<Arc<ContainerEntry>> {
        self.containers.lock().values().filter(|c| c.pod.id == pod).cloned().collect()
    }
}

/// ns since 1970.
fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn sys_error(error: sys::Error) -> Error {
    Error::internal(error.to_string(), error.source)
}
