//! What a server is made of.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use auth_api::{Authenticator, Authorizer, ServiceAccountTokenIssuer};
use registry::Registry;
use wire::TlsConfig;

/// A port.
#[derive(Clone)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// TLS; `None` for plain HTTP.
    pub tls: Option<TlsConfig>,
    /// The workshop's insecure port: no authentication, everybody is in `system:masters`.
    pub insecure: bool,
}

/// How the server proves itself to kubelets.
#[derive(Clone, Default)]
pub struct KubeletClient {
    /// PEM of the CA that signed the kubelets' serving certificates; empty takes any certificate, as upstream without
    /// `--kubelet-certificate-authority`.
    pub ca: Vec<u8>,
    /// PEM of the client certificate; empty for none.
    pub certificate: Vec<u8>,
    /// PEM of its key.
    pub key: Vec<u8>,
    /// Order in which a node's addresses are tried.
    pub preferred_address_types: Vec<String>,
}

/// Everything a server needs. The registry already has its rows and its admission.
pub struct Config {
    /// Storage of every kind.
    pub registry: Arc<Registry>,
    /// Who is it?
    pub authenticator: Arc<dyn Authenticator>,
    /// May he?
    pub authorizer: Arc<dyn Authorizer>,
    /// Makes service-account tokens; without one the `token` subresource answers 404, as upstream.
    pub token_issuer: Option<Arc<dyn ServiceAccountTokenIssuer>>,
    /// Ports.
    pub listen: Vec<Listen>,
    /// How kubelets are reached.
    pub kubelet: KubeletClient,
    /// PEM of certificate and key that we show to aggregated servers; empty for none.
    pub proxy_client: (Vec<u8>, Vec<u8>),
    /// The address that the `kubernetes` Service's endpoint has; `None` keeps that Service unmanaged.
    pub advertise: Option<SocketAddr>,
    /// The `kubernetes` Service's cluster IP: the first of the service range.
    pub kubernetes_service_ip: Option<IpAddr>,
    /// Service ranges in CIDR notation, for the default ServiceCIDR object; empty makes none.
    pub service_cidrs: Vec<String>,
    /// Deadline of requests that are not long-running.
    pub request_timeout: Duration,
    /// Shortest life of a watch without `timeoutSeconds`; the longest is twice that.
    pub min_request_timeout: Duration,
    /// `--max-requests-inflight`.
    pub max_requests_inflight: usize,
    /// `--max-mutating-requests-inflight`.
    pub max_mutating_requests_inflight: usize,
    /// Whether priority and fairness sorts requests, in place of the two plain limits; their sum is its seats.
    pub priority_and_fairness: bool,
    /// Upper bound of a requested token's life in seconds; 0 for none.
    pub max_token_expiration: i64,
    /// Run after the listeners are open; `/readyz` waits for each.
    pub post_start: Vec<PostStart>,
    /// How often the store is compacted; zero never does it.
    pub compaction_interval: Duration,
    /// Encryption at rest, for the check `kms-providers`.
    pub encryption: Option<Arc<encryption::Encryption>>,
    /// Records requests.
    pub auditor: Option<Arc<crate::audit::Auditor>>,
    /// Ends the server.
    pub shutdown: rt::Shutdown,
    /// Announces the end: `/readyz` fails from here on, `shutdown` may follow later.
    pub stopping: rt::Shutdown,
    /// Feature gates, for `/metrics`.
    pub gates: features::Gates,
    /// Flags and their values, for `/flagz`.
    pub shown_flags: std::collections::BTreeMap<String, String>,
    /// Whose addresses are the `kubernetes` Service's endpoints.
    pub endpoint_reconciler: EndpointReconciler,
}

/// Who says which API servers there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointReconciler {
    /// Keys with a lease in the store, upstream's default: servers come and go.
    Lease,
    /// Our address is added, up to this many are kept.
    MasterCount(usize),
    /// Nobody: the endpoints are left alone.
    None,
    /// Ours is the only one: the store is in this process.
    #[default]
    Alone,
}

/// A hook after start; it is one check of `/readyz` under `poststarthook/<name>`.
pub struct PostStart {
    /// Such as `rbac/bootstrap-roles`.
    pub name: &'static str,
    /// The work, tried again with back-off until it succeeds.
    pub run: PostStartFn,
}

/// The work of a [`PostStart`].
pub type PostStartFn = Box<dyn Fn() -> futures::future::BoxFuture<'static, Result<(), meta::Status>> + Send + Sync>;

impl Config {
    /// Upstream's defaults around the four parts that have none.
    pub fn new(
        registry: Arc<Registry>,
        authenticator: Arc<dyn Authenticator>,
        authorizer: Arc<dyn Authorizer>,
        shutdown: rt::Shutdown,
    ) -> Self {
        Self {
            registry,
            authenticator,
            authorizer,
            token_issuer: None,
            listen: Vec::new(),
            kubelet: KubeletClient::default(),
            proxy_client: Default::default(),
            advertise: None,
            kubernetes_service_ip: None,
            service_cidrs: Vec::new(),
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            priority_and_fairness: true,
            max_token_expiration: 0,
            post_start: Vec::new(),
            compaction_interval: registry::COMPACT_INTERVAL,
            encryption: None,
            auditor: None,
            stopping: shutdown.clone(),
            shutdown,
            gates: features::Gates::default(),
            shown_flags: Default::default(),
            endpoint_reconciler: EndpointReconciler::default(),
        }
    }
}
