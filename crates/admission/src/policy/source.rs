//! Policies with their bindings, followed by watches.

use std::collections::BTreeMap;
use std::sync::Arc;

use auth_api::{Edit, ObjectEvent};
use futures::StreamExt;
use futures::stream::{BoxStream, select};
use meta::{GroupVersionResource, Object};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::compile::{Binding, Policy};

/// Policies that have bindings, by name.
pub(super) type Snapshot = Arc<Vec<(Arc<Policy>, Vec<Arc<Binding>>)>>;

/// Follows one kind of policy and its bindings. It starts with the first request.
pub(super) struct Source {
    api: Arc<dyn Edit>,
    policies: &'static str,
    bindings: &'static str,
    current: Arc<RwLock<Option<Snapshot>>>,
    started: std::sync::OnceLock<Following>,
}

/// The task that follows, which ends with the plugin.
struct Following {
    ready: watch::Receiver<bool>,
    task: rt::JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Change {
    Policy(ObjectEvent),
    Binding(ObjectEvent),
}

#[derive(Default)]
struct State {
    policies: BTreeMap<String, Arc<Policy>>,
    bindings: BTreeMap<String, Arc<Binding>>,
    /// Whether the first list of policies, and of bindings, has come.
    listed: [bool; 2],
}

impl Source {
    pub(super) fn new(api: Arc<dyn Edit>, policies: &'static str, bindings: &'static str) -> Self {
        Self { api, policies, bindings, current: Arc::default(), started: std::sync::OnceLock::new() }
    }

    /// Whether it is known that there is nothing to evaluate.
    pub(super) fn is_empty(&self) -> bool {
        self.current.read().as_ref().is_some_and(|snapshot| snapshot.is_empty())
    }

    /// The policies; waits for the first lists.
    pub(super) async fn snapshot(&self) -> Snapshot {
        let following = self.started.get_or_init(|| self.start());
        if let Some(snapshot) = self.current.read().clone() {
            return snapshot;
        }
        let mut ready = following.ready.clone();
        // The sender lives as long as the task, which ends with the plugin.
        let _ = ready.wait_for(|ready| *ready).await;
        self.current.read().clone().unwrap_or_default()
    }

    fn start(&self) -> Following {
        let of = |resource: &str| GroupVersionResource::new("admissionregistration.k8s.io", "v1", resource);
        let policies = self.api.watch(&of(self.policies)).map(Change::Policy);
        let bindings = self.api.watch(&of(self.bindings)).map(Change::Binding);
        let (tell, ready) = watch::channel(false);
        let task =
            rt::spawn("admission-policies", follow(select(policies, bindings).boxed(), self.current.clone(), tell));
        Following { ready, task }
    }
}

async fn follow(
    mut changes: BoxStream<'static, Change>,
    current: Arc<RwLock<Option<Snapshot>>>,
    tell: watch::Sender<bool>,
) {
    let mut state = State::default();
    while let Some(change) = changes.next().await {
        state.take(change);
        if state.listed == [true, true] {
            *current.write() = Some(state.snapshot());
            tell.send_replace(true);
        }
    }
}

impl State {
    fn take(&mut self, change: Change) {
        match change {
            Change::Policy(event) => {
                self.listed[0] = true;
                put(&mut self.policies, event, Policy::new);
            }
            Change::Binding(event) => {
                self.listed[1] = true;
                put(&mut self.bindings, event, Binding::new);
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let with_bindings = self.policies.values().filter_map(|policy| {
            let bindings: Vec<_> = self.bindings.values().filter(|b| b.policy == policy.name).cloned().collect();
            (!bindings.is_empty()).then(|| (policy.clone(), bindings))
        });
        Arc::new(with_bindings.collect())
    }
}

fn put<T>(all: &mut BTreeMap<String, Arc<T>>, event: ObjectEvent, make: fn(&Object) -> T) {
    match event {
        ObjectEvent::Replace(objects) => {
            *all = objects.iter().map(|object| (object.name().to_owned(), Arc::new(make(object)))).collect();
        }
        ObjectEvent::Upsert(object) => drop(all.insert(object.name().to_owned(), Arc::new(make(&object)))),
        ObjectEvent::Delete(object) => drop(all.remove(object.name())),
    }
}
