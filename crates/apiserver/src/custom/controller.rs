//! Follows the definitions: names and conditions, rows, and the clean-up when one is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use auth_api::{Edit, Lookup, ObjectEvent};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use meta::{GroupVersionResource, Object, Status};
use registry::{Access, Registry};
use serde_json::{Value, json};
use tracing::warn;

use super::codec;
use crate::server::State;

const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
const RETRY: Duration = Duration::from_millis(300);
/// Statuses that are written at the same time: each waits for the disk, and definitions often come by the hundred.
const WRITES: usize = 64;

/// What is served of one definition.
struct Served {
    spec: Value,
    group: String,
    plural: String,
}

struct Controller {
    registry: Arc<Registry>,
    access: Access,
    gvr: GroupVersionResource,
    /// By the definition's name.
    served: BTreeMap<String, Served>,
    /// Definitions whose handling failed and is tried again.
    retry: BTreeMap<String, ()>,
    /// Statuses on their way, with the definitions' names.
    writes: FuturesUnordered<BoxFuture<'static, Written>>,
}

type Written = (String, Result<(), Status>);

/// Starts the controller.
pub(crate) fn start(state: &Arc<State>) {
    let registry = state.registry.clone();
    let shutdown = state.config.shutdown.clone();
    let mut controller = Controller {
        access: Access::new(registry.clone()),
        registry,
        gvr: GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        served: BTreeMap::new(),
        retry: BTreeMap::new(),
        writes: FuturesUnordered::new(),
    };
    rt::spawn("custom-resources", async move { shutdown.run(controller.run()).await });
}

impl Controller {
    async fn run(&mut self) {
        let mut events = self.access.watch(&self.gvr);
        loop {
            let retries = !self.retry.is_empty();
            let pause = async { if retries { rt::time::sleep(RETRY).await } else { std::future::pending().await } };
            rt::select! {
                Some((name, written)) = self.writes.next(), if !self.writes.is_empty() => self.settle(&name, written),
                event = events.next() => match event {
                    None => return,
                    Some(event) => self.handle(event).await,
                },
                () = pause => self.retry().await,
            }
        }
    }

    async fn handle(&mut self, event: ObjectEvent) {
        match event {
            ObjectEvent::Replace(all) => {
                let names: Vec<String> = all.iter().map(|o| o.name().to_owned()).collect();
                let gone: Vec<String> = self.served.keys().filter(|n| !names.contains(n)).cloned().collect();
                gone.iter().for_each(|name| self.withdraw(name));
                for object in all {
                    self.sync(&object).await;
                }
            }
            ObjectEvent::Upsert(object) => self.sync(&object).await,
            ObjectEvent::Delete(object) => {
                self.retry.remove(object.name());
                self.withdraw(object.name());
            }
        }
    }

    async fn retry(&mut self) {
        for (name, ()) in std::mem::take(&mut self.retry) {
            match self.access.get_live(&self.gvr, "", &name).await {
                Ok(Some(object)) => self.sync(&object).await,
                Ok(None) => self.withdraw(&name),
                Err(_) => drop(self.retry.insert(name, ())),
            }
        }
    }

    fn withdraw(&mut self, name: &str) {
        if let Some(served) = self.served.remove(name) {
            self.registry.remove(&served.group, &served.plural);
        }
    }

    async fn sync(&mut self, object: &Object) {
        let done = self.sync_once(object).await;
        self.settle(object.name(), done);
    }

    fn settle(&mut self, name: &str, done: Result<(), Status>) {
        if let Err(error) = done {
            if !error.is_conflict() && !error.is_not_found() {
                warn!(definition = name, %error, "definition could not be handled and is tried again");
            }
            self.retry.insert(name.to_owned(), ());
        }
    }

    async fn sync_once(&mut self, object: &Object) -> Result<(), Status> {
        if object.deletion_timestamp().is_some() {
            return self.clean_up(object).await;
        }
        let conflict = self.conflict(object);
        if conflict.is_none() {
            self.serve(object);
        }
        while self.writes.len() >= WRITES
            && let Some((name, written)) = self.writes.next().await
        {
            self.settle(&name, written);
        }
        self.write_status(object, conflict);
        Ok(())
    }

    /// Another resource has the names already.
    fn conflict(&self, object: &Object) -> Option<String> {
        let group = object.get_str(&["spec", "group"]);
        let name = |field: &str| object.get_str(&["spec", "names", field]);
        let own = self.served.get(object.name());
        for resource in self.registry.all() {
            let row = &resource.row;
            let mine = own.is_some_and(|s| s.group == row.group && s.plural == row.plural);
            if row.group != group || mine {
                continue;
            }
            if row.plural == name("plural") || row.singular == name("plural") {
                return Some(format!("{:?} is already in use", name("plural")));
            }
            if row.kind == name("kind") || row.list_kind == name("kind") {
                return Some(format!("{:?} is already in use", name("kind")));
            }
        }
        None
    }

    fn serve(&mut self, object: &Object) {
        let spec = object.get(&["spec"]).cloned().unwrap_or_default();
        if self.served.get(object.name()).is_some_and(|s| s.spec == spec) {
            return;
        }
        match codec::row(object, &self.registry) {
            Some(row) => {
                let served = Served { spec, group: row.group.clone(), plural: row.plural.clone() };
                self.registry.add(row);
                self.served.insert(object.name().to_owned(), served);
            }
            None => self.withdraw(object.name()),
        }
    }

    /// Begins to write the status when it changes.
    fn write_status(&self, object: &Object, conflict: Option<String>) {
        let mut fresh = object.clone();
        let accepted = conflict.is_none();
        if accepted {
            let names = object.get(&["spec", "names"]).cloned().unwrap_or_default();
            fresh.set(&["status", "acceptedNames"], names);
        } else if fresh.get(&["status", "acceptedNames"]).is_none() {
            fresh.set(&["status", "acceptedNames"], json!({"plural": "", "kind": ""}));
        }
        if let Some(message) = &conflict {
            condition(&mut fresh, "NamesAccepted", "False", "NamesConflict", message);
            if !is_true(object, "Established") {
                condition(&mut fresh, "Established", "False", "NotAccepted", "not all names are accepted");
            }
        } else {
            condition(&mut fresh, "NamesAccepted", "True", "NoConflicts", "no conflicts found");
            let message = "the initial names have been accepted";
            condition(&mut fresh, "Established", "True", "InitialNamesAccepted", message);
        }
        if fresh == *object {
            return;
        }
        let (access, gvr, name) = (self.access.clone(), self.gvr.clone(), object.name().to_owned());
        self.writes.push(Box::pin(async move { (name, access.update_status(&gvr, fresh).await.map(drop)) }));
    }

    /// Deletes the custom resources, then lets the definition go.
    async fn clean_up(&mut self, object: &Object) -> Result<(), Status> {
        if !object.finalizers().contains(&CLEANUP) {
            return Ok(());
        }
        let (group, plural) = (object.get_str(&["spec", "group"]), object.get_str(&["spec", "names", "plural"]));
        let own = self.served.contains_key(object.name());
        if let Some(resource) = self.registry.get(group, plural).filter(|_| own) {
            let gvr = resource.row.gvr(&resource.row.hub.version);
            for instance in resource.list_cached("").await? {
                match self.access.delete(&gvr, &instance).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
                    _ => {}
                }
            }
            let left = resource.list(&registry::ListOptions::default()).await?.entries.len();
            if left > 0 {
                self.retry.insert(object.name().to_owned(), ());
                return Ok(());
            }
        }
        let mut fresh = object.clone();
        let rest = object.finalizers().into_iter().filter(|f| *f != CLEANUP).map(str::to_owned).collect();
        fresh.set_finalizers(rest);
        self.access.update(&self.gvr, fresh).await?;
        self.withdraw(object.name());
        Ok(())
    }
}

fn is_true(object: &Object, kind: &str) -> bool {
    let all = object.get(&["status", "conditions"]).and_then(Value::as_array);
    all.is_some_and(|l| l.iter().any(|c| c["type"] == kind && c["status"] == "True"))
}

/// Sets a condition; the time changes only with the status.
fn condition(object: &mut Object, kind: &str, status: &str, reason: &str, message: &str) {
    let now = meta::time::format_seconds(rt::time::now());
    let fresh = |time: Value| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time});
    let list = object.status_mut().entry("conditions").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(found) if found["status"] == status => {
            let time = found["lastTransitionTime"].clone();
            if found["reason"] != reason || found["message"] != message {
                *found = fresh(time);
            }
        }
        Some(found) => *found = fresh(now.into()),
        None => list.push(fresh(now.into())),
    }
}
