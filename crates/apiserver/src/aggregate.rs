//! The aggregation layer: APIServices, their availability, and the proxy to the servers behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use auth_api::{Edit, Lookup, ObjectEvent, UserInfo};
use base64::Engine;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use meta::{GroupVersionResource, Object, Status};
use parking_lot::RwLock;
use registry::Access;
use serde_json::{Value, json};
use tracing::{debug, warn};
use wire::Body;

use crate::chain::Call;
use crate::kubelet::{Backend, Peer, pass_on, strip_hop_headers};
use crate::server::State;
use crate::sub::{api_endpoint, pass_through, upgrade_of};

/// How often a server that does not answer is asked again.
const RECHECK: Duration = Duration::from_secs(2);
/// How long a server may take to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// A server behind an APIService.
pub(crate) struct Remote {
    namespace: String,
    service: String,
    port: String,
    tls: Arc<rustls::ClientConfig>,
    /// The resources it serves, once it answered.
    resources: RwLock<Option<Value>>,
    spec: Value,
}

/// A group version that this process serves beside the registry's kinds, such as resource metrics. An APIService of the
/// same group version that names a Service takes its place.
#[async_trait::async_trait]
pub trait LocalGroup: Send + Sync + 'static {
    /// Its group.
    fn group(&self) -> &str;
    /// Its version.
    fn version(&self) -> &str;
    /// Its `APIResourceList`.
    fn resources(&self) -> Value;
    /// Answers an authorized request, whose body is not read.
    async fn answer(&self, request: Request<()>) -> Response<Vec<u8>>;
}

/// Who serves a group version that the registry does not.
pub(crate) enum Place {
    /// A server behind an APIService.
    Remote(Arc<Remote>),
    /// This process.
    Local(Arc<dyn LocalGroup>),
}

/// All of them, by group and version.
#[derive(Default)]
pub(crate) struct Aggregator {
    remotes: RwLock<BTreeMap<(String, String), Arc<Remote>>>,
    locals: RwLock<Vec<Arc<dyn LocalGroup>>>,
    /// Told when a local group came.
    added: rt::sync::Notify,
    generation: AtomicU64,
}

impl Aggregator {
    /// Counts up when discovery must be rebuilt.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The server of a group version.
    pub fn find(&self, group: &str, version: &str) -> Option<Place> {
        if let Some(remote) = self.remote(group, version) {
            return Some(Place::Remote(remote));
        }
        let locals = self.locals.read();
        let local = locals.iter().find(|l| l.group() == group && l.version() == version)?;
        Some(Place::Local(local.clone()))
    }

    fn remote(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.read();
        if remotes.is_empty() {
            return None;
        }
        remotes.get(&(group.to_owned(), version.to_owned())).cloned()
    }

    /// Adds a group that this process serves.
    pub fn add_local(&self, local: Arc<dyn LocalGroup>) {
        self.locals.write().push(local);
        self.changed();
        self.added.notify_one();
    }

    /// Group versions that answer, with their resource lists.
    pub fn served(&self) -> Vec<(String, String, Value)> {
        let remotes = self.remotes.read();
        let mut served: Vec<_> = remotes
            .iter()
            .filter_map(|((g, v), r)| Some((g.clone(), v.clone(), r.resources.read().clone()?)))
            .collect();
        for local in self.locals.read().iter() {
            let key = (local.group().to_owned(), local.version().to_owned());
            if !remotes.contains_key(&key) {
                served.push((key.0, key.1, local.resources()));
            }
        }
        served
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

struct Controller {
    state: Arc<State>,
    access: Access,
    gvr: GroupVersionResource,
    /// Services that must be looked at again.
    open: BTreeMap<String, ()>,
    /// Where each named service's group version is.
    known: BTreeMap<String, (String, String)>,
}

/// Starts following the APIServices.
pub(crate) fn start(state: &Arc<State>) {
    let mut controller = Controller {
        access: Access::new(state.registry.clone()),
        state: state.clone(),
        gvr: GroupVersionResource::new("apiregistration.k8s.io", "v1", "apiservices"),
        open: BTreeMap::new(),
        known: BTreeMap::new(),
    };
    let shutdown = state.config.shutdown.clone();
    rt::spawn("aggregator", async move { shutdown.run(controller.run()).await });
}

impl Controller {
    async fn run(&mut self) {
        let state = self.state.clone();
        let mut events = self.access.watch(&self.gvr);
        let mut rows = self.state.registry.subscribe();
        let mut first = true;
        loop {
            let pause = async {
                if self.open.is_empty() { std::future::pending().await } else { rt::time::sleep(RECHECK).await }
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
                for object in all {
                    self.sync(&object).await;
                }
            }
            ObjectEvent::Upsert(object) => self.sync(&object).await,
            ObjectEvent::Delete(object) => {
                self.open.remove(object.name());
                if let Some(key) = self.known.remove(object.name()) {
                    self.state.aggregator.remotes.write().remove(&key);
                    self.state.aggregator.changed();
                }
            }
        }
    }

    async fn recheck(&mut self) {
        for (name, ()) in std::mem::take(&mut self.open) {
            if let Ok(Some(object)) = self.access.get_live(&self.gvr, "", &name).await {
                self.sync(&object).await;
            }
        }
    }

    async fn sync(&mut self, object: &Object) {
        if object.get(&["spec", "service"]).is_none_or(|s| !s.is_object()) {
            let message = "Local APIServices are always available";
            self.write_condition(object, "True", "Local", message).await;
            return;
        }
        let key = (object.get_str(&["spec", "group"]).to_owned(), object.get_str(&["spec", "version"]).to_owned());
        let spec = object.get(&["spec"]).cloned().unwrap_or_default();
        let current = self.state.aggregator.remote(&key.0, &key.1).filter(|r| r.spec == spec);
        let remote = match current {
            Some(remote) => remote,
            None => match remote(&self.state, &spec) {
                Ok(remote) => {
                    let remote = Arc::new(remote);
                    self.state.aggregator.remotes.write().insert(key.clone(), remote.clone());
                    self.state.aggregator.changed();
                    self.known.insert(object.name().to_owned(), key.clone());
                    remote
                }
                Err(error) => return self.write_condition(object, "False", "FailedDiscoveryCheck", &error).await,
            },
        };
        match check(&self.state, &remote, &key).await {
            Ok(resources) => {
                let fresh = Some(resources);
                if *remote.resources.read() != fresh {
                    *remote.resources.write() = fresh;
                    self.state.aggregator.changed();
                }
                self.write_condition(object, "True", "Passed", "all checks passed").await;
            }
            Err(why) => {
                debug!(service = object.name(), %why, "aggregated server is not available");
                self.open.insert(object.name().to_owned(), ());
                self.write_condition(object, "False", "FailedDiscoveryCheck", &why).await;
            }
        }
    }

    async fn write_condition(&mut self, object: &Object, status: &str, reason: &str, message: &str) {
        let mut fresh = object.clone();
        let now = meta::time::format_seconds(rt::time::now());
        let list = fresh.status_mut().entry("conditions").or_insert_with(|| json!([]));
        let Some(list) = list.as_array_mut() else { return };
        let old = list.iter().find(|c| c["type"] == "Available").cloned();
        if old.as_ref().is_some_and(|c| c["status"] == status && c["reason"] == reason && c["message"] == message) {
            return;
        }
        let time = old.filter(|c| c["status"] == status).map_or(json!(now), |c| c["lastTransitionTime"].clone());
        let condition = json!({
            "type": "Available", "status": status, "reason": reason, "message": message, "lastTransitionTime": time,
        });
        list.retain(|c| c["type"] != "Available");
        list.push(condition);
        if let Err(error) = self.access.update_status(&self.gvr, fresh).await
            && !error.is_not_found()
        {
            // Somebody else wrote: the watch brings the new object, or the next check does.
            self.open.insert(object.name().to_owned(), ());
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

fn remote(state: &State, spec: &Value) -> Result<Remote, String> {
    let text = |pointer: &str| spec.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    let insecure = spec.get("insecureSkipTLSVerify").and_then(Value::as_bool).unwrap_or(false);
    let bundle = text("/caBundle");
    let ca = base64::engine::general_purpose::STANDARD.decode(bundle).map_err(|e| format!("caBundle: {e}"))?;
    let ca = if insecure { Vec::new() } else { ca };
    let tls = crate::kubelet::proxy_tls(&ca, &state.config.proxy_client)?;
    let port = spec.pointer("/service/port").and_then(Value::as_i64).unwrap_or(443);
    Ok(Remote {
        namespace: text("/service/namespace").to_owned(),
        service: text("/service/name").to_owned(),
        port: port.to_string(),
        tls: Arc::new(tls),
        resources: RwLock::default(),
        spec: spec.clone(),
    })
}

impl Remote {
    async fn backend(&self, state: &State) -> Result<Backend, Status> {
        let (host, port) = api_endpoint(&state.registry, &self.namespace, &self.service, &self.port).await?;
        let name = format!("{}.{}.svc", self.service, self.namespace);
        Ok(Backend { host, port, tls: Some(Peer::Named(self.tls.clone(), name)) })
    }
}

/// Tells the server who asks.
fn identify(headers: &mut HeaderMap, user: &UserInfo) {
    let stale: Vec<HeaderName> = headers
        .keys()
        .filter(|k| k.as_str().starts_with("x-remote-") || k.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in stale {
        headers.remove(name);
    }
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::HOST);
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.name);
    add("x-remote-uid", &user.uid);
    user.groups.iter().for_each(|group| add("x-remote-group", group));
    for (key, values) in &user.extra {
        let key = crate::sub::escape(key).to_lowercase();
        values.iter().for_each(|value| add(&format!("x-remote-extra-{key}"), value));
    }
}

async fn check(state: &State, remote: &Remote, (group, version): &(String, String)) -> Result<Value, String> {
    let backend = remote.backend(state).await.map_err(|e| e.message)?;
    let path = format!("/apis/{group}/{version}");
    let mut request =
        Request::builder().method(Method::GET).uri(&path).body(wire::empty()).map_err(|e| e.to_string())?;
    let user = UserInfo::new("system:kube-aggregator", &[auth_api::groups::MASTERS]);
    identify(request.headers_mut(), &user);
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let asked = async {
        let answer = state.kubelets.send(&backend, request).await.map_err(|e| e.message)?;
        if answer.status() != StatusCode::OK {
            return Err(format!("failing or missing response from {path}: bad status: {}", answer.status()));
        }
        let bytes = wire::read_all(pass_on(answer).into_body(), 4 << 20).await.map_err(|e| e.to_string())?;
        serde_json::from_slice(&bytes).map_err(|e| e.to_string())
    };
    rt::time::timeout(CHECK_TIMEOUT, asked).await.map_err(|_| format!("no answer from {path} in time"))?
}

/// Passes a request on to the server of its group version.
pub(crate) async fn forward(call: Call, place: &Place) -> Result<Response<Body>, Status> {
    match place {
        Place::Remote(remote) => forward_remote(call, remote).await,
        Place::Local(local) => {
            let mut request = Request::new(());
            *request.method_mut() = call.head.method.clone();
            *request.uri_mut() = call.head.uri.clone();
            *request.headers_mut() = call.head.headers.clone();
            let (head, bytes) = local.answer(request).await.into_parts();
            let mut response =
                crate::respond::sized_response(&call.head.headers, head.status, "application/json", bytes);
            for (name, value) in &head.headers {
                response.headers_mut().insert(name.clone(), value.clone());
            }
            Ok(response)
        }
    }
}

async fn forward_remote(mut call: Call, remote: &Remote) -> Result<Response<Body>, Status> {
    if remote.resources.read().is_none() {
        return Err(Status::service_unavailable("service unavailable"));
    }
    let backend = remote.backend(&call.state).await?;
    let path = call.head.uri.path_and_query().map_or_else(|| call.info.path.clone(), |p| p.as_str().to_owned());
    identify(&mut call.head.headers, &call.user);
    if upgrade_of(call.headers()).is_some() {
        return pass_through(&mut call, &backend, &path).await;
    }
    let mut headers = call.head.headers.clone();
    strip_hop_headers(&mut headers, false);
    let mut request = Request::new(call.take_body());
    *request.method_mut() = call.head.method.clone();
    *request.uri_mut() = path.parse().map_err(Status::internal)?;
    *request.headers_mut() = headers;
    *request.version_mut() = Version::HTTP_11;
    Ok(pass_on(call.state.kubelets.send(&backend, request).await?))
}
