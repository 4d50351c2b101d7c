//! The garbage collector: removes objects whose owners are gone.
//!
//! A graph of all objects and their owner references is kept by metadata-only watches of every resource that can be
//! listed, watched and deleted; custom resources come and go with their definitions. Two queues follow: objects to
//! delete perhaps, and owners whose dependents are to be orphaned. Every decision is checked against the live object first, as the
//! graph may be behind.

mod decide;
mod graph;
mod monitor;

use std::sync::Arc;
use std::time::Duration;

use api::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use client::{Client, DeleteOptions, Error, PatchKind, Propagation, Resource};
use informer::{Queue, run_workers};
use meta::{GroupVersionKind, Object};
use parking_lot::Mutex;
use rt::sync::watch;
use rt::{HashMap, HashSet, Shutdown};
use serde_json::json;

use crate::cluster::gc::decide::{Verdict, decide};
use crate::cluster::gc::graph::{Follow, Graph, Identity, Item};
use crate::discovery::{Served, discover};
use crate::frame::Context;

pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";
/// Tries before an object is left until something about it changes.
const MAX_ATTEMPTS: u32 = 15;
/// When groups are asked again that could not be read.
const DISCOVER_AGAIN: Duration = Duration::from_secs(10);
/// When an owner is looked at again that no watch has shown yet.
const UNSEEN_AGAIN: Duration = Duration::from_secs(30);
/// How long decisions wait for the first list of every resource, as upstream.
const LISTS_LIMIT: Duration = Duration::from_secs(30);

/// What to look at: deletion or orphaning of an object by uid.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Task {
    Delete(String),
    Orphan(String),
    Discover,
}

/// A monitor that runs.
struct Running {
    stop: Shutdown,
    served: Served,
}

pub(super) struct Collector {
    client: Client,
    graph: Mutex<Graph>,
    queue: Arc<Queue<Task>>,
    monitors: Mutex<HashMap<meta::GroupVersionResource, Running>>,
    kinds: Mutex<HashMap<(String, String), Served>>,
    /// Resources whose objects are not all in the graph yet; `None` before the first discovery.
    unlisted: watch::Sender<Option<HashSet<meta::GroupVersionResource>>>,
    shutdown: Shutdown,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let queue = Arc::new(Queue::new());
    let collector = Arc::new(Collector {
        client: context.client.clone(),
        graph: Mutex::default(),
        queue: queue.clone(),
        monitors: Mutex::default(),
        kinds: Mutex::default(),
        unlisted: watch::Sender::new(None),
        shutdown: context.shutdown.clone(),
    });
    let definitions = context.factory.informer::<CustomResourceDefinition>();
    let of_definition = queue.clone();
    definitions.add_handler(move |_| of_definition.add(Task::Discover));
    queue.add(Task::Discover);
    let (shutdown, workers) = (context.shutdown.clone(), context.options.workers.max(5) * 2);
    run_workers("garbage collector", queue, workers, shutdown, move |task: Task| {
        let collector = collector.clone();
        async move { collector.work(task).await }
    })
    .await;
}

impl Collector {
    async fn work(self: Arc<Self>, task: Task) -> Result<(), Error> {
        if task != Task::Discover && !self.has_listed() {
            self.wait_for_lists().await;
        }
        let result = match &task {
            Task::Discover => self.clone().rediscover().await,
            Task::Delete(uid) => self.attempt_delete(uid).await,
            Task::Orphan(uid) => self.attempt_orphan(uid).await,
        };
        match result {
            Err(error) if task != Task::Discover && self.queue.failures(&task) >= MAX_ATTEMPTS => {
                tracing::warn!(?task, error = error.chain(), "garbage collection gives up until the object changes");
                Ok(())
            }
            Ok(()) => {
                if let Task::Delete(uid) = &task
                    && self.graph.lock().is_virtual(uid)
                {
                    // It is there, but may come and go before its watch is up again: no event would tell.
                    self.queue.add_after(task.clone(), UNSEEN_AGAIN);
                }
                Ok(())
            }
            other => other,
        }
    }

    fn has_listed(&self) -> bool {
        self.unlisted.borrow().as_ref().is_some_and(HashSet::is_empty)
    }

    /// Waits until the graph has all objects: an owner whose dependents are not in it yet would go before them, or leave them to be
    /// deleted when they were to be orphaned. A resource that cannot be listed holds the others up for a while only.
    async fn wait_for_lists(&self) {
        let mut unlisted = self.unlisted.subscribe();
        let listed = unlisted.wait_for(|unlisted| unlisted.as_ref().is_some_and(HashSet::is_empty));
        if rt::time::timeout(LISTS_LIMIT, listed).await.is_err() {
            tracing::warn!("garbage collection goes on without having listed all resources");
            // Those that cannot be listed hold up nothing more.
            self.unlisted.send_modify(|unlisted| unlisted.get_or_insert_default().clear());
        }
    }

    /// A resource is in the graph.
    pub(super) fn listed(&self, gvr: &meta::GroupVersionResource) {
        self.unlisted.send_if_modified(|unlisted| unlisted.as_mut().is_some_and(|unlisted| unlisted.remove(gvr)));
    }

    /// Starts monitors of resources that appeared and stops those of resources that vanished.
    async fn rediscover(self: Arc<Self>) -> Result<(), Error> {
        let (served, failures) = discover(&self.client).await?;
        let mut kinds = HashMap::default();
        for resource in &served {
            let gvk = GroupVersionKind::new(&*resource.gvr.group, &*resource.gvr.version, &*resource.kind);
            kinds.insert((gvk.api_version(), gvk.kind), resource.clone());
        }
        *self.kinds.lock() = kinds;
        let wanted: Vec<Served> = served
            .into_iter()
            .filter(|r| r.can("list") && r.can("watch") && r.can("delete") && !ignored(&r.gvr))
            .collect();
        let mut monitors = self.monitors.lock();
        if !failures.is_empty() {
            tracing::warn!(?failures, "some groups cannot be discovered, trying again");
            self.queue.add_after(Task::Discover, DISCOVER_AGAIN);
        } else {
            let gone: Vec<_> = monitors.keys().filter(|gvr| !wanted.iter().any(|w| w.gvr == **gvr)).cloned().collect();
            for gvr in gone {
                if let Some(monitor) = monitors.remove(&gvr) {
                    monitor.stop.cancel();
                    self.listed(&gvr);
                    self.vanish(&monitor.served);
                }
            }
        }
        self.unlisted.send_modify(|unlisted| {
            let new = wanted.iter().map(|resource| &resource.gvr).filter(|gvr| !monitors.contains_key(*gvr));
            unlisted.get_or_insert_default().extend(new.cloned());
        });
        for resource in wanted {
            if !monitors.contains_key(&resource.gvr) {
                let stop = self.shutdown.child();
                let monitor = Running { stop: stop.clone(), served: resource.clone() };
                monitors.insert(resource.gvr.clone(), monitor);
                rt::spawn("gc monitor", monitor::run(self.clone(), resource, stop));
            }
        }
        Ok(())
    }

    /// Objects of a kind that is served no more are gone with it, whether or not their watch lived to tell.
    fn vanish(&self, served: &Served) {
        let gvk = GroupVersionKind::new(&*served.gvr.group, &*served.gvr.version, &*served.kind);
        let uids = self.graph.lock().uids_of(&gvk.api_version(), &gvk.kind);
        for uid in uids {
            self.observe(|graph| graph.remove(&uid));
        }
    }

    /// Takes a change of the graph and queues what follows from it.
    fn observe(&self, change: impl FnOnce(&mut Graph) -> Vec<Follow>) {
        let follows = change(&mut self.graph.lock());
        for follow in follows {
            self.queue.add(match follow {
                Follow::Delete(uid) => Task::Delete(uid),
                Follow::Orphan(uid) => Task::Orphan(uid),
            });
        }
    }

    fn resource_of(&self, identity: &Identity) -> Option<Served> {
        self.kinds.lock().get(&(identity.api_version.clone(), identity.kind.clone())).cloned()
    }

    /// The live object; `None` when it is gone or another one has its name.
    async fn live(&self, identity: &Identity) -> Result<Option<Object>, Error> {
        let Some(served) = self.resource_of(identity) else {
            return Err(Error::Request(format!("no resource for kind {} in {}", identity.kind, identity.api_version)));
        };
        let namespace = served.namespaced.then_some(identity.namespace.as_str());
        let of = Resource { gvr: &served.gvr, namespace };
        match self.client.get_object(&of, &identity.name).await {
            Ok(object) if object.uid() == identity.uid => Ok(Some(object)),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() && names(&error, &identity.name) => Ok(None),
            Err(error) => {
                if error.is_not_found() {
                    // Not the object is unknown but its kind: the definition may be on its way out, or on its way back.
                    self.queue.add_after(Task::Discover, DISCOVER_AGAIN);
                }
                Err(error)
            }
        }
    }

    async fn attempt_delete(&self, uid: &str) -> Result<(), Error> {
        let Some(item) = self.graph.lock().item(uid) else { return Ok(()) };
        if item.being_deleted && !item.deleting_dependents {
            return Ok(());
        }
        let Some(live) = self.live(&item.identity).await? else {
            // Never there, or gone without us seeing it.
            self.observe(|graph| graph.remove(uid));
            return Ok(());
        };
        if item.deleting_dependents {
            return self.delete_dependents_first(&item, &live).await;
        }
        let mut owners = Vec::new();
        for reference in live.owner_references() {
            let found = self.owner_state(&item, &reference).await?;
            owners.push((reference, found));
        }
        let has_dependents = self.graph.lock().has_dependents(uid);
        match decide(&live, &owners, has_dependents) {
            Verdict::Keep => Ok(()),
            Verdict::Forget(uids) => self.drop_owners(&item, &live, &uids).await,
            Verdict::Delete(propagation) => {
                let in_circle = propagation == Propagation::Foreground
                    && self.graph.lock().dependents(uid).iter().any(|d| d.deleting_dependents);
                if in_circle {
                    // Each would wait for the other: this one stops blocking its owners.
                    self.unblock_owners(&item, &live).await?;
                }
                let options = DeleteOptions {
                    uid: Some(uid.to_owned()),
                    resource_version: (!in_circle).then(|| live.resource_version().to_owned()),
                    propagation: Some(propagation),
                    ..DeleteOptions::default()
                };
                self.delete(&item.identity, &options).await
            }
        }
    }

    async fn owner_state(&self, item: &Item, reference: &meta::OwnerReference) -> Result<decide::Owner, Error> {
        let identity = Identity {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            namespace: item.identity.namespace.clone(),
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        };
        if let Some(served) = self.resource_of(&identity)
            && served.namespaced
            && identity.namespace.is_empty()
        {
            tracing::warn!(
                kind = identity.kind,
                name = identity.name,
                "a cluster-scoped object names a namespaced owner"
            );
            return Ok(decide::Owner::Solid);
        }
        Ok(match self.live(&identity).await? {
            None => decide::Owner::Absent,
            Some(owner) => {
                let waiting = owner.deletion_timestamp().is_some() && owner.finalizers().contains(&FOREGROUND);
                if waiting { decide::Owner::Waiting } else { decide::Owner::Solid }
            }
        })
    }

    /// The object goes once its blocking dependents are gone.
    async fn delete_dependents_first(&self, item: &Item, live: &Object) -> Result<(), Error> {
        let blocking = self.graph.lock().blocking_dependents(&item.identity.uid);
        if blocking.is_empty() {
            return self.remove_finalizer(&item.identity, live, FOREGROUND).await;
        }
        for (uid, deleting) in blocking {
            if !deleting {
                self.queue.add(Task::Delete(uid));
            }
        }
        Ok(())
    }

    async fn attempt_orphan(&self, uid: &str) -> Result<(), Error> {
        let (item, dependents) = {
            let graph = self.graph.lock();
            let Some(item) = graph.item(uid) else { return Ok(()) };
            (item, graph.dependents(uid))
        };
        let drops = dependents.iter().map(|dependent| self.drop_owner_of(dependent, uid));
        futures::future::try_join_all(drops).await?;
        match self.live(&item.identity).await? {
            Some(live) => self.remove_finalizer(&item.identity, &live, ORPHAN).await,
            None => Ok(()),
        }
    }

    async fn drop_owner_of(&self, dependent: &Item, owner: &str) -> Result<(), Error> {
        match self.live(&dependent.identity).await? {
            Some(live) => self.drop_owners(dependent, &live, &[owner.to_owned()]).await,
            None => Ok(()),
        }
    }

    async fn drop_owners(&self, item: &Item, live: &Object, uids: &[String]) -> Result<(), Error> {
        let left: Vec<meta::OwnerReference> =
            live.owner_references().into_iter().filter(|r| !uids.contains(&r.uid)).collect();
        let left = if left.is_empty() { serde_json::Value::Null } else { json!(left) };
        self.patch_meta(&item.identity, live, json!({"ownerReferences": left})).await
    }

    async fn unblock_owners(&self, item: &Item, live: &Object) -> Result<(), Error> {
        let mut references = live.owner_references();
        if references.iter().all(|r| r.block_owner_deletion != Some(true)) {
            return Ok(());
        }
        references.iter_mut().for_each(|r| r.block_owner_deletion = Some(false));
        self.patch_meta(&item.identity, live, json!({"ownerReferences": references})).await
    }

    async fn remove_finalizer(&self, identity: &Identity, live: &Object, finalizer: &str) -> Result<(), Error> {
        let left: Vec<&str> = live.finalizers().into_iter().filter(|f| *f != finalizer).collect();
        if left.len() == live.finalizers().len() {
            return Ok(());
        }
        self.patch_meta(identity, live, json!({"finalizers": left})).await
    }

    async fn patch_meta(&self, identity: &Identity, live: &Object, mut meta: serde_json::Value) -> Result<(), Error> {
        meta["uid"] = live.uid().into();
        meta["resourceVersion"] = live.resource_version().into();
        let Some(served) = self.resource_of(identity) else { return Ok(()) };
        let namespace = served.namespaced.then_some(identity.namespace.as_str());
        let of = Resource { gvr: &served.gvr, namespace };
        let patch = json!({"metadata": meta});
        match self.client.patch_object(&of, &identity.name, "", &PatchKind::Merge, &patch).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete(&self, identity: &Identity, options: &DeleteOptions) -> Result<(), Error> {
        let Some(served) = self.resource_of(identity) else { return Ok(()) };
        let namespace = served.namespaced.then_some(identity.namespace.as_str());
        let of = Resource { gvr: &served.gvr, namespace };
        match self.client.delete_object(&of, &identity.name, options).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether the server misses the object itself. A path that leads nowhere says nothing of the object, and its dependents must
/// not go for it.
fn names(error: &Error, name: &str) -> bool {
    error.status().and_then(|status| status.details.as_ref()).is_some_and(|details| details.name == name)
}

/// Events are many, own nothing and go by age.
fn ignored(gvr: &meta::GroupVersionResource) -> bool {
    gvr.resource == "events"
}

#[cfg(test)]
mod tests;
