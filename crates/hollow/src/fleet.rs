//! Many nodes over shared watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use api::prelude::{Kind, Node, Pod};
use client::{Client, DeleteOptions, Error, PatchKind};
use informer::{Delta, Factory, Informer, Queue, Scope, run_workers};
use parking_lot::Mutex;
use rt::time::Instant;
use rt::{HashMap, Shutdown};

use crate::node::{self, Heart};
use crate::plan::{Containers, Local, Step, adopt, step};
use crate::{Behaviour, NodeSpec, Times, status};

/// Every cache that is asked for pods of a node has this index.
const BY_NODE: &str = "node";
/// The first address of pods: 100.64.0.0/10, which is nobody's.
const FIRST_ADDRESS: u32 = 0x6440_0000;

struct Machine {
    spec: NodeSpec,
    // Taken out while a heartbeat is under way.
    heart: Mutex<Heart>,
    off: std::sync::atomic::AtomicBool,
}

struct Shared {
    client: Client,
    machines: HashMap<String, Machine>,
    behaviour: Arc<dyn Behaviour>,
    times: Times,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    factory: Factory,
    locals: Mutex<HashMap<String, Local>>,
    addresses: AtomicU32,
    pod_keys: Arc<Queue<String>>,
    node_keys: Arc<Queue<String>>,
}

/// Hollow nodes. Clones share them.
#[derive(Clone)]
pub struct Fleet(Arc<Shared>);

impl Fleet {
    /// Nodes that are made by [`Fleet::run`]. The client's user needs the rights of all the nodes.
    pub fn new(client: Client, nodes: Vec<NodeSpec>, behaviour: Arc<dyn Behaviour>, times: Times) -> Self {
        let factory = Factory::new(client.clone());
        // Pods without a node are none of ours.
        let pods = factory.scoped::<Pod>(Scope { field_selector: "spec.nodeName!=".into(), ..Scope::default() });
        pods.add_index(BY_NODE, |pod: &Pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect());
        let machine =
            |spec: NodeSpec| (spec.name.clone(), Machine { spec, heart: Mutex::default(), off: false.into() });
        Self(Arc::new(Shared {
            nodes: factory.informer::<Node>(),
            pods,
            factory,
            client,
            machines: nodes.into_iter().map(machine).collect(),
            behaviour,
            times,
            locals: Mutex::default(),
            addresses: AtomicU32::new(0),
            pod_keys: Arc::new(Queue::new()),
            node_keys: Arc::new(Queue::new()),
        }))
    }

    /// Registers the nodes and runs their pods until told to stop. The nodes stay, as those of kubelets do.
    pub async fn run(&self, shutdown: Shutdown) {
        let shared = &self.0;
        let keys = shared.pod_keys.clone();
        shared.pods.add_handler(move |delta: &Delta<Pod>| keys.add(delta.object().key()));
        shared.factory.start(&shutdown);
        if shutdown.run(shared.factory.synced()).await.is_none() {
            return;
        }
        for name in shared.machines.keys() {
            shared.node_keys.add(name.clone());
        }
        let (pods, nodes) = (shared.clone(), shared.clone());
        let workers = shared.times.workers;
        let pods =
            run_workers("hollow pods", shared.pod_keys.clone(), workers, shutdown.clone(), move |key: String| {
                let shared = pods.clone();
                async move { shared.sync_pod(&key).await }
            });
        let nodes = run_workers("hollow nodes", shared.node_keys.clone(), workers, shutdown, move |name: String| {
            let shared = nodes.clone();
            async move { shared.sync_node(&name).await }
        });
        rt::select! {
            () = pods => {}
            () = nodes => {}
        }
    }

    /// Switches a node off: it is silent, and what ran on it is lost.
    pub fn power_off(&self, name: &str) {
        let Some(machine) = self.0.machines.get(name) else { return };
        machine.off.store(true, Ordering::Release);
        let mut locals = self.0.locals.lock();
        for pod in self.0.pods.cache().by_index(BY_NODE, name) {
            if let Some(local) = locals.get_mut(&pod.key())
                && !matches!(local.containers, Containers::Ended { .. })
            {
                local.containers = Containers::Lost;
            }
        }
    }

    /// Switches a node on again; it looks after the pods that are still its own.
    pub fn power_on(&self, name: &str) {
        let Some(machine) = self.0.machines.get(name) else { return };
        machine.off.store(false, Ordering::Release);
        self.0.node_keys.add(name.to_owned());
        for pod in self.0.pods.cache().by_index(BY_NODE, name) {
            self.0.pod_keys.add(pod.key());
        }
    }

    /// The names of the nodes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.machines.keys().map(String::as_str)
    }
}

impl Shared {
    async fn sync_node(&self, name: &str) -> Result<(), Error> {
        let Some(machine) = self.machines.get(name) else { return Ok(()) };
        if machine.off.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut heart = std::mem::take(&mut *machine.heart.lock());
        let seen = self.nodes.cache().get_key(name);
        let beaten = node::beat(&self.client, &machine.spec, &self.times, &mut heart, seen.as_deref()).await;
        *machine.heart.lock() = heart;
        beaten?;
        self.node_keys.add_after(name.to_owned(), node::pause(&self.times));
        Ok(())
    }

    fn next_address(&self) -> String {
        let number = self.addresses.fetch_add(1, Ordering::Relaxed) % (1 << 22);
        std::net::Ipv4Addr::from(FIRST_ADDRESS + 1 + number).to_string()
    }

    /// The pod's local state, taken as far as it is, and what follows from it.
    fn decide(&self, key: &str, pod: &Pod) -> (Local, Step) {
        let now = Instant::now();
        let mut locals = self.locals.lock();
        if locals.get(key).is_none_or(|local| local.uid != pod.uid()) {
            locals.insert(key.to_owned(), adopt(pod, &*self.behaviour, now, || self.next_address()));
        }
        let local = locals.entry(key.to_owned()).or_insert_with(|| adopt(pod, &*self.behaviour, now, String::new));
        let next = step(pod, local, &*self.behaviour, now);
        (local.clone(), next)
    }

    async fn sync_pod(&self, key: &str) -> Result<(), Error> {
        let Some(pod) = self.pods.cache().get_key(key) else {
            self.locals.lock().remove(key);
            return Ok(());
        };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let Some(machine) = self.machines.get(node).filter(|machine| !machine.off.load(Ordering::Acquire)) else {
            return Ok(());
        };
        tracing::trace!(node = machine.spec.name, pod = key, "syncing");
        let (local, next) = self.decide(key, &pod);
        let done = match next {
            Step::Wait(None) => Ok(()),
            Step::Wait(Some(at)) => {
                self.pod_keys.add_after(key.to_owned(), at.saturating_duration_since(Instant::now()));
                Ok(())
            }
            Step::Report => {
                let patch = status::of_pod(&pod, &local);
                self.client
                    .patch_status::<Pod>(pod.namespace(), pod.name(), &PatchKind::Strategic, &patch)
                    .await
                    .map(drop)
            }
            Step::Remove => {
                self.client.delete::<Pod>(pod.namespace(), pod.name(), &DeleteOptions::now(pod.uid())).await
            }
        };
        match done {
            // The watch tells what became of it.
            Err(error) if error.is_not_found() => Ok(()),
            done => done,
        }
    }
}
