//! What all parts of the kubelet share.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Client;
use informer::Informer;
use node_api::{DnsConfig, ImageService, RuntimeService};
use parking_lot::{Mutex, RwLock};
use rt::sync::{Notify, Semaphore};
use rt::{HashMap, Shutdown};
use volumes::Volumes;
use volumes::fields::Facts;
use volumes::quantity::ResourceList;

use crate::config::Config;
use crate::events::Events;
use crate::k8s::core::Service;
use crate::k8s::{Kind, Pod, PodExt};
use crate::objects::{ForPod, Objects};
use crate::pod::observed::Observed;
use crate::pod::status::Verdict;
use crate::probe::Probes;
use crate::source::mirror::Mirrors;
use crate::spec::dns::{self, NodeDns};
use crate::statuses::{Statuses, Target};

/// Services and state of the whole kubelet.
pub struct Shared {
    /// Settings.
    pub config: Config,
    /// The API server; `None` standalone.
    pub client: Option<Client>,
    /// Events.
    pub events: Events,
    /// Sandboxes and containers.
    pub runtime: Arc<dyn RuntimeService>,
    /// Images.
    pub images: Arc<dyn ImageService>,
    /// Volumes.
    pub volumes: Volumes,
    /// ConfigMaps, Secrets, tokens.
    pub objects: Option<Arc<Objects>>,
    /// Services, for environments.
    pub services: Option<Informer<Service>>,
    /// Statuses.
    pub statuses: Arc<Statuses>,
    /// Probes.
    pub probes: Arc<Probes>,
    /// Mirror pods.
    pub mirrors: Arc<Mirrors>,
    /// Capacity and allocatable.
    pub machine: crate::node::machine::Machine,
    /// Cgroups of pods and classes.
    pub(crate) cgroups: Arc<crate::cgroups::Cgroups>,
    /// The node's addresses.
    pub host_ips: RwLock<Vec<String>>,
    /// The runtime's name.
    pub runtime_name: String,
    /// Bounds how many pods are being set up.
    pub starts: Semaphore,
    /// Workers by pod uid.
    pub pods: Mutex<HashMap<String, Arc<Handle>>>,
    /// Back-off of image pulls.
    pub pulls: Mutex<crate::pod::backoff::Backoffs>,
    /// The end.
    pub shutdown: Shutdown,
}

/// What is wanted of a pod's worker.
#[derive(Debug, Clone)]
pub struct Want {
    /// The newest object.
    pub pod: Arc<Pod>,
    /// It must end, for this reason.
    pub verdict: Option<Verdict>,
    /// Its object is gone.
    pub gone: bool,
    /// The runtime said something.
    pub dirty: bool,
    /// Its ConfigMaps or Secrets changed.
    pub stale: bool,
}

/// What others may see of a pod.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What the runtime has.
    pub observed: Observed,
}

/// The face of a worker.
pub struct Handle {
    /// The pod's uid.
    pub uid: String,
    /// What is wanted.
    pub want: Mutex<Want>,
    /// Rings when `want` has changed.
    pub wake: Notify,
    /// Told when the worker has ended.
    pub ended: Shutdown,
    /// What is seen.
    pub view: Mutex<View>,
}

impl Handle {
    /// For a new pod.
    #[must_use]
    pub fn new(pod: Arc<Pod>, verdict: Option<Verdict>) -> Arc<Self> {
        let want = Want { pod: pod.clone(), verdict, gone: false, dirty: true, stale: false };
        Arc::new(Self {
            uid: pod.uid().to_owned(),
            want: Mutex::new(want),
            wake: Notify::new(),
            ended: Shutdown::new(),
            view: Mutex::default(),
        })
    }

    /// Changes what is wanted and rings.
    pub fn change(&self, change: impl FnOnce(&mut Want)) {
        change(&mut self.want.lock());
        self.wake.notify_one();
    }

    /// The newest object.
    #[must_use]
    pub fn pod(&self) -> Arc<Pod> {
        self.want.lock().pod.clone()
    }
}

impl Shared {
    /// The worker of a pod.
    #[must_use]
    pub fn handle(&self, uid: &str) -> Option<Arc<Handle>> {
        self.pods.lock().get(uid).cloned()
    }

    /// All workers.
    #[must_use]
    pub fn handles(&self) -> Vec<Arc<Handle>> {
        self.pods.lock().values().cloned().collect()
    }

    /// Finds a pod by name; with a uid, only that one. Among several of one name, the one that still runs.
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Handle>> {
        let mut found: Vec<_> = self
            .handles()
            .into_iter()
            .filter(|h| {
                let pod = h.pod();
                pod.namespace() == namespace && pod.name() == name && uid.is_none_or(|u| u == h.uid)
            })
            .collect();
        found.sort_by_key(|h| h.pod().is_terminal());
        found.into_iter().next()
    }

    /// What a pod's fields may refer to.
    #[must_use]
    pub fn facts(&self, pod: &Pod, observed: &Observed) -> Facts {
        let host_ips = self.host_ips.read().clone();
        let pod_ips = if pod.host_network() {
            host_ips.clone()
        } else {
            observed.ready_sandbox().map(|s| s.network.iter().map(ToString::to_string).collect()).unwrap_or_default()
        };
        Facts { pod_ips, host_ips, allocatable: self.allocatable() }
    }

    /// The node's allocatable resources.
    #[must_use]
    pub fn allocatable(&self) -> ResourceList {
        self.machine.allocatable(&self.config)
    }

    /// The objects as a pod's volumes see them.
    #[must_use]
    pub fn objects_for(&self, uid: &str) -> ForPod {
        ForPod { objects: self.objects.clone(), user: uid.to_owned() }
    }

    /// Services, for environments.
    #[must_use]
    pub fn services_in(&self, namespace: &str) -> Vec<Arc<Service>> {
        let Some(services) = &self.services else { return Vec::new() };
        let mut list = services.cache().in_namespace(namespace);
        list.extend(services.cache().get("default", "kubernetes"));
        list
    }

    /// The node's side of DNS, read anew each time: resolv.conf changes with the network.
    #[must_use]
    pub fn node_dns(&self) -> NodeDns {
        let path = &self.config.resolv_conf;
        let host = match std::fs::read_to_string(path) {
            Ok(text) => dns::parse(&text),
            Err(_) => DnsConfig::default(),
        };
        NodeDns {
            cluster_dns: self.config.cluster_dns.clone(),
            cluster_domain: self.config.cluster_domain.clone(),
            host,
        }
    }

    /// The API object that a pod's status is written to.
    #[must_use]
    pub fn target(&self, pod: &Pod) -> Option<Target> {
        if pod.is_static() {
            return self.mirrors.target(pod);
        }
        Some(Target { namespace: pod.namespace().to_owned(), name: pod.name().to_owned(), uid: pod.uid().to_owned() })
    }

    /// Sums of what running pods ask for.
    #[must_use]
    pub fn active_pods(&self) -> BTreeMap<String, Arc<Pod>> {
        let active = |pod: &Arc<Pod>| {
            let told = self.statuses.get(pod.uid());
            let over =
                told.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| matches!(p, "Succeeded" | "Failed"));
            !over && !pod.is_terminal()
        };
        self.handles().into_iter().map(|h| (h.uid.clone(), h.pod())).filter(|(_, pod)| active(pod)).collect()
    }
}
