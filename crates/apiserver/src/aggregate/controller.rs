//! Follows the APIServices: who serves which group version, and whether he answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use auth_api::{Edit, Lookup, ObjectEvent, UserInfo};
use futures::StreamExt;
use http::StatusCode;
use meta::{GroupVersionResource, Object};
use registry::Access;
use rt::time::Instant;
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::{Question, Remote, remote};
use crate::server::State;

/// How soon a server that does not answer is asked again.
const RECHECK: Duration = Duration::from_secs(2);
/// How soon one that answered is.
const RESYNC: Duration = Duration::from_secs(30);
/// How long a server may take to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a server that answered before is asked before it counts as gone: one of several behind a Service may be.
const ATTEMPTS: usize = 5;
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// What `Available` shall say.
struct Verdict {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }

    fn unknown(reason: &'static str, service: &str, namespace: &str, error: &meta::Status) -> Self {
        let message = format!("service/{service} in {namespace:?} cannot be checked due to: {}", error.message);
        Self { status: "Unknown", reason, message }
    }
}

struct Controller {
    state: Arc<State>,
    access: Access,
    gvr: GroupVersionResource,
    /// When each APIService is looked at again.
    due: BTreeMap<String, Instant>,
    /// The group version of each that names a Service, and that Service.
    known: BTreeMap<String, Known>,
}

struct Known {
    key: (String, String),
    /// Namespace and name.
    service: (String, String),
}

/// Starts following the APIServices.
pub(crate) fn start(state: &Arc<State>) {
    let mut controller = Controller {
        access: Access::new(state.registry.clone()),
        state: state.clone(),
        gvr: GroupVersionResource::new("apiregistration.k8s.io", "v1", "apiservices"),
        due: BTreeMap::new(),
        known: BTreeMap::new(),
    };
    let shutdown = state.config.shutdown.clone();
    rt::spawn("aggregator", async move { shutdown.run(controller.run()).await });
}

fn services() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "services")
}

fn slices() -> GroupVersionResource {
    GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices")
}

impl Controller {
    async fn run(&mut self) {
        let state = self.state.clone();
        let mut events = self.access.watch(&self.gvr);
        let mut services = self.access.watch(&services());
        let mut slices = self.access.watch(&slices());
        let mut rows = self.state.registry.subscribe();
        let mut first = true;
        loop {
            let next = self.due.values().min().copied();
            let pause = async {
                match next {
                    Some(at) => rt::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            rt::select! {
                event = events.next() => match event {
                    None => return,
                    Some(event) => {
                        self.handle(event).await;
                        if std::mem::take(&mut first) {
                            self.register_local().await;
                        }
                    }
                },
                Some(event) = services.next() => self.touched(&event, |service| service.name()),
                Some(event) = slices.next() => {
                    self.touched(&event, |slice| slice.label("kubernetes.io/service-name").unwrap_or(""));
                }
                changed = rows.changed(), if !first => match changed {
                    Ok(()) => self.register_local().await,
                    Err(_) => return,
                },
                () = state.aggregator.added.notified(), if !first => self.register_local().await,
                () = pause => self.recheck().await,
            }
        }
    }

    async fn handle(&mut self, event: ObjectEvent) {
        match event {
            ObjectEvent::Replace(all) => {
                let names: BTreeSet<&str> = all.iter().map(|object| object.name()).collect();
                let gone: Vec<_> = self.known.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
                gone.iter().for_each(|name| self.forget(name));
                self.sync(&all).await;
            }
            ObjectEvent::Upsert(object) => self.sync(&[object]).await,
            ObjectEvent::Delete(object) => self.forget(object.name()),
        }
    }

    fn forget(&mut self, name: &str) {
        self.due.remove(name);
        if let Some(known) = self.known.remove(name) {
            let removed = self.state.aggregator.remotes.write().remove(&known.key);
            if let Some(remote) = removed {
                remote.stop.cancel();
            }
            self.state.aggregator.changed();
        }
    }

    /// A Service or what is behind it changed: whoever is served by it is looked at now.
    fn touched(&mut self, event: &ObjectEvent, service: impl Fn(&Object) -> &str) {
        let objects = match event {
            ObjectEvent::Replace(all) => all.as_slice(),
            ObjectEvent::Upsert(object) | ObjectEvent::Delete(object) => std::slice::from_ref(object),
        };
        for (name, known) in &self.known {
            let of = |o: &Arc<Object>| o.namespace() == known.service.0 && service(o) == known.service.1;
            if objects.iter().any(of) {
                self.due.insert(name.clone(), Instant::now());
            }
        }
    }

    async fn recheck(&mut self) {
        let now = Instant::now();
        let names: Vec<String> = self.due.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        let mut objects = Vec::new();
        for name in names {
            self.due.remove(&name);
            match self.access.get_live(&self.gvr, "", &name).await {
                Ok(Some(object)) => objects.push(object),
                Ok(None) => {}
                Err(_) => drop(self.due.insert(name, now + RECHECK)),
            }
        }
        self.sync(&objects).await;
    }

    /// Checks these at the same time, so that one that hangs holds up no other, and writes what was found.
    async fn sync(&mut self, objects: &[Arc<Object>]) {
        let mut checks = Vec::new();
        for object in objects {
            if object.get(&["spec", "service"]).is_none_or(|s| !s.is_object()) {
                self.forget(object.name());
                let message = "Local APIServices are always available";
                let verdict = Verdict { status: "True", reason: "Local", message: message.to_owned() };
                self.write_condition(object, &verdict).await;
                continue;
            }
            match self.remote_of(object) {
                Ok((key, remote)) => checks.push((object, key, remote)),
                Err(error) => {
                    self.due.insert(object.name().to_owned(), Instant::now() + RESYNC);
                    self.write_condition(object, &Verdict::no("FailedDiscoveryCheck", error)).await;
                }
            }
        }
        let (state, access) = (&self.state, &self.access);
        let found = checks.into_iter().map(|(object, key, remote)| async move {
            let verdict = check(state, access, object, &remote, &key).await;
            (object, remote, verdict)
        });
        for (object, remote, found) in futures::future::join_all(found).await {
            self.settle(object, &remote, found).await;
        }
    }

    async fn settle(&mut self, object: &Object, remote: &Arc<Remote>, found: Result<Value, Verdict>) {
        let (verdict, again) = match found {
            Ok(resources) => {
                let fresh = Some(resources);
                let changed = *remote.resources.read() != fresh;
                if changed {
                    *remote.resources.write() = fresh;
                    self.state.aggregator.changed();
                }
                if !remote.available.swap(true, Ordering::AcqRel) || changed {
                    remote.refresh.notify_one();
                }
                (Verdict { status: "True", reason: "Passed", message: "all checks passed".to_owned() }, RESYNC)
            }
            Err(verdict) => {
                debug!(service = object.name(), why = %verdict.message, "aggregated server is not available");
                remote.available.store(false, Ordering::Release);
                (verdict, RECHECK)
            }
        };
        self.due.insert(object.name().to_owned(), Instant::now() + again);
        self.write_condition(object, &verdict).await;
    }

    /// The server of an APIService: the one that is there, unless its address or keys changed.
    fn remote_of(&mut self, object: &Object) -> Result<((String, String), Arc<Remote>), String> {
        let key = (object.get_str(&["spec", "group"]).to_owned(), object.get_str(&["spec", "version"]).to_owned());
        let spec = object.get(&["spec"]).cloned().unwrap_or_default();
        if let Some(remote) = self.state.aggregator.remote(&key.0, &key.1).filter(|r| r.spec == spec) {
            return Ok((key, remote));
        }
        let made = Arc::new(remote(&self.state, &spec)?);
        super::documents::start(&self.state, &key, &made);
        let old = self.state.aggregator.remotes.write().insert(key.clone(), made.clone());
        if let Some(old) = old {
            old.stop.cancel();
        }
        self.state.aggregator.changed();
        let service = (made.namespace.clone(), made.service.clone());
        self.known.insert(object.name().to_owned(), Known { key: key.clone(), service });
        Ok((key, made))
    }

    async fn write_condition(&mut self, object: &Object, verdict: &Verdict) {
        let Verdict { status, reason, message } = verdict;
        let mut fresh = object.clone();
        let now = meta::time::format_seconds(rt::time::now());
        let list = fresh.status_mut().entry("conditions").or_insert_with(|| json!([]));
        let Some(list) = list.as_array_mut() else { return };
        let old = list.iter().find(|c| c["type"] == "Available").cloned();
        if old.as_ref().is_some_and(|c| c["status"] == *status && c["reason"] == *reason && c["message"] == *message) {
            return;
        }
        let time = old.filter(|c| c["status"] == *status).map_or(json!(now), |c| c["lastTransitionTime"].clone());
        let condition = json!({
            "type": "Available", "status": status, "reason": reason, "message": message, "lastTransitionTime": time,
        });
        list.retain(|c| c["type"] != "Available");
        list.push(condition);
        if let Err(error) = self.access.update_status(&self.gvr, fresh).await
            && !error.is_not_found()
        {
            // Somebody else wrote: the watch brings the new object, or the next check does.
            self.due.insert(object.name().to_owned(), Instant::now() + RECHECK);
        }
    }

    /// Keeps an APIService for every group version that this server itself serves.
    async fn register_local(&mut self) {
        let rows: Vec<_> = self.state.registry.all().iter().map(|r| r.row.clone()).collect();
        let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
        for (at, (group, versions)) in crate::discovery::groups(&rows).into_iter().enumerate() {
            let custom = rows.iter().any(|r| r.group == group && r.custom.is_some());
            let priority = if custom { 1000 } else { 18_000 - 50 * i64::try_from(at).unwrap_or(0) };
            for (place, version) in versions.iter().enumerate() {
                let rank = if custom { 100 } else { 15 } - i64::try_from(place).unwrap_or(0);
                let mut spec = json!({"version": version, "groupPriorityMinimum": priority, "versionPriority": rank});
                if !group.is_empty() {
                    spec["group"] = group.as_str().into();
                }
                let managed = if custom { "true" } else { "onstart" };
                wanted.insert(
                    format!("{version}.{group}"),
                    json!({
                        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                        "metadata": {"name": format!("{version}.{group}"), "labels": {MANAGED: managed}},
                        "spec": spec,
                    }),
                );
            }
        }
        for local in self.state.aggregator.locals.read().iter() {
            let name = format!("{}.{}", local.version(), local.group());
            let value = json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": name, "labels": {MANAGED: "onstart"}},
                "spec": {
                    "group": local.group(), "version": local.version(),
                    "groupPriorityMinimum": 100, "versionPriority": 100,
                },
            });
            wanted.insert(name, value);
        }
        let Ok(existing) = self.access.list(&self.gvr, "").await else { return };
        for object in existing.iter().filter(|o| o.label(MANAGED) == Some("true") && !wanted.contains_key(o.name())) {
            if let Err(error) = self.access.delete(&self.gvr, object).await {
                debug!(%error, service = object.name(), "stale APIService stays");
            }
        }
        for (name, value) in wanted {
            if existing.iter().any(|o| o.name() == name) {
                continue;
            }
            let Some(object) = Object::from_value(value) else { continue };
            if let Err(error) = self.access.create(&self.gvr, object).await
                && !error.is_already_exists()
            {
                warn!(%error, service = %name, "APIService could not be registered");
            }
        }
    }
}

/// Whether a server answers for its group version, and with which resources.
async fn check(
    state: &State,
    access: &Access,
    object: &Object,
    remote: &Remote,
    (group, version): &(String, String),
) -> Result<Value, Verdict> {
    reachable(access, object, remote).await?;
    let path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    let attempt = || async {
        let user = UserInfo::new("system:kube-aggregator", &[auth_api::groups::MASTERS]);
        let question = Question { path: &path, user, known: "", limit: 4 << 20, timeout: CHECK_TIMEOUT };
        let answer = remote.ask(state, question).await?;
        if answer.status != StatusCode::OK {
            return Err(format!("failing or missing response from {path}: bad status: {}", answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|e| e.to_string())
    };
    let mut found = attempt().await;
    if found.is_err() && remote.available.load(Ordering::Acquire) {
        let more = (1..ATTEMPTS).map(|_| Box::pin(attempt()));
        found = futures::future::select_ok(more).await.map(|(resources, _)| resources);
    }
    found.map_err(|why| Verdict::no("FailedDiscoveryCheck", why))
}

/// Whether there is a Service with the port, and anybody behind it.
async fn reachable(access: &Access, object: &Object, remote: &Remote) -> Result<(), Verdict> {
    let (namespace, name) = (remote.namespace.as_str(), remote.service.as_str());
    let service = match access.get(&services(), namespace, name).await {
        Ok(Some(service)) => service,
        Ok(None) => {
            let message = format!("service/{name} in {namespace:?} is not present");
            return Err(Verdict::no("ServiceNotFound", message));
        }
        Err(error) => return Err(Verdict::unknown("ServiceAccessError", name, namespace, &error)),
    };
    if !matches!(service.get_str(&["spec", "type"]), "" | "ClusterIP") {
        return Ok(());
    }
    let wanted = object.get_i64(&["spec", "service", "port"]).unwrap_or(443);
    let ports = service.get(&["spec", "ports"]).and_then(Value::as_array);
    let port = ports.into_iter().flatten().find(|port| port["port"].as_i64() == Some(wanted));
    let Some(port) = port else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {wanted}");
        return Err(Verdict::no("ServicePortError", message));
    };
    let port = port["name"].as_str().unwrap_or("");
    let all = access.list(&slices(), namespace).await;
    let all = all.map_err(|error| Verdict::unknown("EndpointsAccessError", name, namespace, &error))?;
    let mut all = all.iter().filter(|slice| slice.label("kubernetes.io/service-name") == Some(name)).peekable();
    if all.peek().is_none() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(Verdict::no("EndpointsNotFound", message));
    }
    if !all.any(|slice| has_endpoint(slice, port)) {
        let message =
            format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port:?}");
        return Err(Verdict::no("MissingEndpoints", message));
    }
    Ok(())
}

/// Whether a slice has somebody who is ready behind the port of this name.
fn has_endpoint(slice: &Object, port: &str) -> bool {
    let list = |field: &str| slice.get(&[field]).and_then(Value::as_array).into_iter().flatten();
    list("ports").any(|p| p["name"].as_str().unwrap_or("") == port)
        && list("endpoints").any(|e| e["conditions"]["ready"].as_bool().unwrap_or(true))
}
