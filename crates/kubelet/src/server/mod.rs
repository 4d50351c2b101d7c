//! The kubelet's server: pods, logs, exec, attach, port-forward, statistics, metrics.

pub mod auth;
mod logs;
mod metrics;
mod process;
mod stats;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, Request, Response, StatusCode, header};
use rt::sync::watch;
use serde_json::{Value, json};
use wire::{Body, ConnInfo, Service, TlsConfig, TlsSource};

use crate::k8s::PodExt;
use crate::shared::Shared;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("configure TLS")]
    Tls(#[source] wire::TlsError),
    /// The client CA cannot be used.
    #[error("read the client CA")]
    ClientCa(#[source] pki::Error),
}

/// Starts listening; serves until the kubelet's end.
///
/// # Errors
/// See [`Error`].
pub async fn start(shared: Arc<Shared>, changes: Arc<watch::Sender<u64>>) -> Result<(), Error> {
    let config = &shared.config.server;
    let auth = auth::Auth::new(&config.client_ca).map_err(Error::ClientCa)?;
    let server = Arc::new(Server { shared: shared.clone(), changes, auth, usage: stats::Usage::default() });
    if config.port != 0 {
        let tls = if config.certificate.is_empty() {
            None
        } else {
            let source = TlsSource {
                certificate: config.certificate.clone(),
                key: config.key.clone(),
                request_client_certificate: !config.client_ca.is_empty(),
                ..wire::TlsSource::default()
            };
            Some(TlsConfig::new(&source).map_err(Error::Tls)?)
        };
        listen(SocketAddr::new(config.address, config.port), tls, Arc::new(Guarded(server.clone())), &shared).await?;
    }
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if config.healthz_port != 0 {
        listen(SocketAddr::new(local, config.healthz_port), None, Arc::new(Health), &shared).await?;
    }
    if config.read_only_port != 0 {
        let address = SocketAddr::new(config.address, config.read_only_port);
        listen(address, None, Arc::new(ReadOnly(server)), &shared).await?;
    }
    Ok(())
}

async fn listen(
    address: SocketAddr,
    tls: Option<TlsConfig>,
    service: Arc<dyn Service>,
    shared: &Shared,
) -> Result<(), Error> {
    let bound = wire::bind(address, tls).await.map_err(|source| Error::Bind { address, source })?;
    rt::spawn("kubelet server", wire::serve(bound, service, shared.shutdown.clone()));
    Ok(())
}

/// What all handlers share.
pub(crate) struct Server {
    shared: Arc<Shared>,
    changes: Arc<watch::Sender<u64>>,
    auth: auth::Auth,
    usage: stats::Usage,
}

struct Guarded(Arc<Server>);
struct ReadOnly(Arc<Server>);
struct Health;

#[async_trait]
impl Service for Guarded {
    async fn call(&self, request: Request<Body>, connection: Arc<ConnInfo>) -> Response<Body> {
        let bearer = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let bearer =
            bearer.and_then(|v| v.strip_prefix("Bearer ")).map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
        let bearer = bearer.or_else(|| process::bearer_from_protocol(request.headers()));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let checked = self.0.auth.check(&self.0.shared, &method, &path, bearer.as_deref(), &connection).await;
        if let Err((status, message)) = checked {
            return text(status, message);
        }
        self.0.route(request).await
    }
}

#[async_trait]
impl Service for ReadOnly {
    async fn call(&self, request: Request<Body>, _: Arc<ConnInfo>) -> Response<Body> {
        let path = request.uri().path();
        let open = ["/pods", "/stats", "/metrics", "/healthz"].iter().any(|p| path.starts_with(p));
        if !open || request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "the read-only server offers this not");
        }
        self.0.route(request).await
    }
}

#[async_trait]
impl Service for Health {
    async fn call(&self, request: Request<Body>, _: Arc<ConnInfo>) -> Response<Body> {
        match request.uri().path() {
            "/healthz" | "/healthz/ping" => text(StatusCode::OK, "ok"),
            _ => not_found(),
        }
    }
}

/// A plain answer.
pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", message.into())
}

fn answer(status: StatusCode, kind: &'static str, content: String) -> Response<Body> {
    let mut response = Response::new(wire::full(content));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

pub(crate) fn not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn json(value: &Value) -> Response<Body> {
    answer(StatusCode::OK, "application/json", value.to_string())
}

/// Query parameters, in order, decoded.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: Option<&str>) -> Self {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            let mut out = Vec::with_capacity(text.len());
            let mut bytes = text.bytes();
            while let Some(byte) = bytes.next() {
                let mut copy = bytes.clone();
                let hex = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
                match (byte, hex(copy.next()), hex(copy.next())) {
                    (b'%', Some(high), Some(low)) => {
                        out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                        bytes = copy;
                    }
                    _ => out.push(byte),
                }
            }
            String::from_utf8_lossy(&out).into_owned()
        };
        let pairs = query.unwrap_or_default().split('&').filter(|p| !p.is_empty());
        Self(pairs.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (decode(k), decode(v))).collect())
    }

    /// The first value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All values of a name.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == name).map(|(_, v)| v.clone()).collect()
    }

    /// A flag under any of several names.
    pub(crate) fn flag(&self, names: &[&str]) -> bool {
        names.iter().any(|n| self.get(n).is_some_and(|v| matches!(v, "1" | "true" | "True" | "TRUE" | "t")))
    }
}

impl Server {
    async fn route(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let query = Query::parse(request.uri().query());
        match parts.as_slice() {
            ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => text(StatusCode::OK, "ok"),
            ["pods"] => json(&self.pods()),
            ["runningpods"] => json(&self.running_pods().await),
            ["configz"] => json(&self.configz()),
            ["spec"] => {
                json(&json!({"num_cores": self.shared.machine.cpus, "memory_capacity": self.shared.machine.memory}))
            }
            ["stats", "summary"] => json(&stats::summary(&self.shared, &self.usage).await),
            ["metrics"] => metrics_text(metrics::kubelet(&self.shared)),
            ["metrics", "resource"] => metrics_text(metrics::resource(&self.shared).await),
            ["metrics", "cadvisor"] => metrics_text(metrics::cadvisor(&self.shared).await),
            ["metrics", "probes"] => metrics_text(String::new()),
            ["containerLogs", namespace, pod, container] => {
                logs::container(&self.shared, &self.changes, (namespace, pod, container), &query).await
            }
            ["logs", rest @ ..] => logs::host(rest),
            ["exec", namespace, pod, container] => {
                self.process(request, process::Verb::Exec, namespace, pod, None, container, &query).await
            }
            ["exec", namespace, pod, uid, container] => {
                self.process(request, process::Verb::Exec, namespace, pod, Some(uid), container, &query).await
            }
            ["attach", namespace, pod, container] => {
                self.process(request, process::Verb::Attach, namespace, pod, None, container, &query).await
            }
            ["attach", namespace, pod, uid, container] => {
                self.process(request, process::Verb::Attach, namespace, pod, Some(uid), container, &query).await
            }
            ["run", namespace, pod, container] => self.run_command(namespace, pod, None, container, &query).await,
            ["run", namespace, pod, uid, container] => {
                self.run_command(namespace, pod, Some(uid), container, &query).await
            }
            ["portForward", namespace, pod] => self.port_forward(request, namespace, pod, None, &query).await,
            ["portForward", namespace, pod, uid] => self.port_forward(request, namespace, pod, Some(uid), &query).await,
            _ => not_found(),
        }
    }

    /// All pods of the node with their newest statuses.
    fn pods(&self) -> Value {
        let mut items: Vec<Value> = Vec::new();
        for handle in self.shared.handles() {
            let mut pod = (*handle.pod()).clone();
            if let Some(status) = self.shared.statuses.get(&handle.uid) {
                pod.status = Some((*status).clone());
            }
            items.push(serde_json::to_value(pod).unwrap_or_default());
        }
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    }

    /// Pods as the runtime knows them.
    async fn running_pods(&self) -> Value {
        let sandboxes =
            self.shared.runtime.list_pod_sandboxes(&node_api::PodSandboxFilter::default()).await.unwrap_or_default();
        let containers =
            self.shared.runtime.list_containers(&node_api::ContainerFilter::default()).await.unwrap_or_default();
        let items: Vec<Value> = sandboxes
            .iter()
            .map(|sandbox| {
                let own = containers.iter().filter(|c| c.pod_sandbox_id == sandbox.id);
                let list: Vec<Value> =
                    own.map(|c| json!({"name": c.metadata.name, "image": c.image.image, "resources": {}})).collect();
                let meta = &sandbox.metadata;
                json!({"metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
                    "spec": {"containers": list}, "status": {}})
            })
            .collect();
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
    }

    fn configz(&self) -> Value {
        let config = &self.shared.config;
        json!({"kubeletconfig": {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": config.server.address,
            "port": config.server.port,
            "healthzPort": config.server.healthz_port,
            "clusterDomain": config.cluster_domain,
            "clusterDNS": config.cluster_dns,
            "maxPods": config.max_pods,
            "staticPodPath": config.static_pod_path,
            "resolvConf": config.resolv_conf,
            "registerNode": config.register_node,
            "nodeStatusUpdateFrequency": format!("{}s", config.status_frequency.as_secs()),
            "nodeStatusReportFrequency": crate::worker::go_duration(config.status_report),
            "nodeLeaseDurationSeconds": config.lease_duration.as_secs(),
            "containerLogMaxSize": config.log_max_size.to_string(),
            "containerLogMaxFiles": config.log_max_files,
            "imageGCHighThresholdPercent": config.image_gc_high,
            "imageGCLowThresholdPercent": config.image_gc_low,
            "podLogsDir": config.pod_logs_dir,
            "authentication": {"anonymous": {"enabled": config.server.auth.anonymous}, "webhook": {"enabled": config.server.auth.webhook_authentication}},
            "authorization": {"mode": if config.server.auth.webhook_authorization { "Webhook" } else { "AlwaysAllow" }},
            "allowedUnsafeSysctls": config.allowed_unsafe_sysctls,
            "kubeReserved": config.reserved,
            "failSwapOn": false,
            "memorySwap": {},
        }})
    }

    /// A container of a pod: its handle and the id of its newest run.
    fn container(
        &self,
        namespace: &str,
        pod: &str,
        uid: Option<&str>,
        container: &str,
    ) -> Result<String, Response<Body>> {
        let missing = |what: String| text(StatusCode::NOT_FOUND, what);
        let handle = self.shared.find(namespace, pod, uid).ok_or_else(|| missing("pod does not exist".to_owned()))?;
        let observed = handle.view.lock().observed.clone();
        let latest = observed.latest(container);
        latest.map(|s| s.id.clone()).ok_or_else(|| {
            let pod = handle.pod();
            missing(format!("container not found ({:?})", format!("{container} in {}", pod.display())))
        })
    }
}

fn metrics_text(content: String) -> Response<Body> {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", content)
}
