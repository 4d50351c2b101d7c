//! The aggregation layer: APIServices, their availability, and the proxy to the servers behind them.

mod controller;
mod documents;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use auth_api::UserInfo;
use base64::Engine;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use meta::Status;
use parking_lot::RwLock;
use serde_json::Value;
use wire::Body;

use crate::chain::Call;
use crate::kubelet::{Backend, Peer, pass_on, strip_hop_headers};
use crate::server::State;
use crate::sub::{api_endpoint, pass_through, upgrade_of};

pub(crate) use controller::start;
pub(crate) use documents::Documents;

/// A server behind an APIService.
pub(crate) struct Remote {
    namespace: String,
    service: String,
    port: String,
    tls: Arc<rustls::ClientConfig>,
    /// The resources it serves, once it answered; they stay known while it is away.
    resources: RwLock<Option<Value>>,
    /// Whether it answered when last asked.
    available: AtomicBool,
    spec: Value,
    /// What it says of its OpenAPI.
    documents: RwLock<Documents>,
    /// Told when the documents should be fetched again before their time.
    refresh: rt::sync::Notify,
    /// Ends what runs for this server when another takes its place.
    stop: rt::Shutdown,
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
    /// Counts up when a server's OpenAPI changed.
    documents: AtomicU64,
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

    /// Counts up when a server came, went or changed its OpenAPI.
    pub fn documents_generation(&self) -> u64 {
        self.documents.load(Ordering::Acquire)
    }

    /// The OpenAPI of all servers, by group and version, those of high priority first.
    pub fn documents(&self) -> Vec<(String, String, Documents)> {
        let remotes = self.remotes.read();
        let mut all: Vec<_> = remotes.iter().map(|(key, remote)| (remote.rank(), key, remote)).collect();
        all.sort_by_key(|(rank, key, _)| (std::cmp::Reverse(*rank), *key));
        all.into_iter().map(|(_, (g, v), remote)| (g.clone(), v.clone(), remote.documents.read().clone())).collect()
    }

    /// The server whose index of OpenAPI names this path (`apis/GROUP/VERSION`): that of the group version itself before
    /// another that also has it.
    pub fn documented(&self, path: &str) -> Option<Place> {
        let own = path.strip_prefix("apis/").and_then(|rest| rest.split_once('/'));
        let remotes = self.remotes.read();
        let own = own.and_then(|(g, v)| remotes.get(&(g.to_owned(), v.to_owned())));
        let knows = |remote: &&Arc<Remote>| remote.documents.read().index.contains_key(path);
        own.filter(knows).or_else(|| remotes.values().find(knows)).cloned().map(Place::Remote)
    }

    fn changed(&self) {
        self.documents.fetch_add(1, Ordering::AcqRel);
        self.generation.fetch_add(1, Ordering::AcqRel);
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
        available: AtomicBool::new(false),
        spec: spec.clone(),
        documents: RwLock::default(),
        refresh: rt::sync::Notify::new(),
        stop: state.config.shutdown.child(),
    })
}

impl Remote {
    /// What its group, then its version weighs.
    fn rank(&self) -> (i64, i64) {
        let number = |name: &str| self.spec.get(name).and_then(Value::as_i64).unwrap_or(0);
        (number("groupPriorityMinimum"), number("versionPriority"))
    }

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

/// A document of a server, asked for as one of this server's own users.
struct Question<'a> {
    path: &'a str,
    user: UserInfo,
    /// The entity tag of what is known already.
    known: &'a str,
    /// The most bytes that are read.
    limit: usize,
    timeout: Duration,
}

/// What a server answered: the code, the entity tag and the body.
struct Answer {
    status: StatusCode,
    tag: String,
    body: bytes::Bytes,
}

impl Remote {
    async fn ask(&self, state: &State, question: Question<'_>) -> Result<Answer, String> {
        let Question { path, user, known, limit, timeout } = question;
        let asked = async {
            let backend = self.backend(state).await.map_err(|e| e.message)?;
            let mut request =
                Request::builder().method(Method::GET).uri(path).body(wire::empty()).map_err(|e| e.to_string())?;
            identify(request.headers_mut(), &user);
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
            if let Some(tag) = HeaderValue::from_str(known).ok().filter(|tag| !tag.is_empty()) {
                request.headers_mut().insert(header::IF_NONE_MATCH, tag);
            }
            let answer = pass_on(state.kubelets.send(&backend, request).await.map_err(|e| e.message)?);
            let status = answer.status();
            let tag = answer.headers().get(header::ETAG).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
            let body = wire::read_all(answer.into_body(), limit).await.map_err(|e| e.to_string())?;
            Ok(Answer { status, tag, body })
        };
        rt::time::timeout(timeout, asked).await.map_err(|_| format!("no answer from {path} in time"))?
    }
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
    if !remote.available.load(Ordering::Acquire) {
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
