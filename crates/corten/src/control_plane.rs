//! The control-plane process: store, API server, controllers and scheduler.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use apiserver::Handle;
use auth_api::{UserInfo, users};
use client::Client;
use informer::Factory;
use local::{ControlPlaneSpec, Layout};
use pki::Pki;
use rt::Shutdown;
use store::{Embedded, EmbeddedOptions};

use crate::in_process;

/// Longest wait for the API server.
const READY_LIMIT: Duration = Duration::from_secs(60);
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(crate) fn read_spec<T: serde::de::DeserializeOwned>(arguments: &[OsString]) -> anyhow::Result<T> {
    let path = arguments.get(1).context("the specification file is missing")?;
    let bytes = std::fs::read(path).with_context(|| format!("read {}", Path::new(path).display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("parse {}", Path::new(path).display()))
}

/// Runs the control plane of a local cluster until told to stop; reports `ready` on standard output.
pub(crate) async fn run(arguments: Vec<OsString>, shutdown: Shutdown) -> anyhow::Result<()> {
    let start = Instant::now();
    let spec: ControlPlaneSpec = read_spec(&arguments)?;
    // A session of its own: Ctrl-C at the terminal is for the command that started us. Already a leader is fine.
    let _ = rustix::process::setsid();
    let layout = Layout::new(&spec.name, spec.data.clone());
    let params = pki::Params {
        addresses: vec![spec.addresses.gateway.addr()],
        service_ips: vec![spec.addresses.kubernetes_service()],
        ..pki::Params::default()
    };
    let pki = Pki::load_or_create(&layout.pki(), &params).context("load the cluster's keys")?;
    let store = Embedded::open(layout.store(), EmbeddedOptions::default()).await.context("open the store")?;
    let server = serve(&spec, store, &shutdown).await?;
    let ready = rt::time::timeout(READY_LIMIT, server.started()).await;
    ready.with_context(|| format!("the API server is not ready after {} s", READY_LIMIT.as_secs()))?;
    println!("ready");
    tracing::info!(seconds = start.elapsed().as_secs_f64(), "control plane is ready");
    server.serve_group(Arc::new(crate::in_process::ResourceMetrics::new(&server, &shutdown)));
    let manager = UserInfo::new(users::CONTROLLER_MANAGER, &[]);
    let factory = Factory::new(in_process::client(&server, manager, "kube-controller-manager"));
    factory.set_transform(component_helpers::trim::pod);
    let agents = [
        rt::spawn(
            "controllers",
            shutdown.run(run_controllers(spec.clone(), server.clone(), pki.clone(), factory.clone(), shutdown.clone())),
        ),
        rt::spawn("scheduler", shutdown.run(run_scheduler(spec.clone(), server.clone(), factory, shutdown.clone()))),
        rt::spawn("host routes", shutdown.run(host_routes(spec.clone(), server.clone(), shutdown.clone()))),
    ];
    shutdown.cancelled().await;
    for agent in agents {
        // They end with the shutdown; a panic was logged where it happened.
        let _ = agent.await;
    }
    Ok(())
}

/// The same API server as `kube-apiserver`, told by the same flags; only the store and the listener are handed over.
async fn serve(spec: &ControlPlaneSpec, store: Arc<Embedded>, shutdown: &Shutdown) -> anyhow::Result<Handle> {
    let address = SocketAddr::new(spec.addresses.gateway.addr(), spec.addresses.api_port);
    let pki = Layout::new(&spec.name, spec.data.clone()).pki();
    let file = |name: &str| pki.join(name).display().to_string();
    let encryption = pki.join("encryption.yaml");
    apiserver::sealing::ensure_secrets_configuration(&encryption)
        .context("make the key that secrets are sealed with")?;
    let arguments = [
        "kube-apiserver".to_owned(),
        format!("--feature-gates={}", spec.feature_gates.join(",")),
        format!("--runtime-config={}", spec.runtime_config.join(",")),
        format!("--encryption-provider-config={}", encryption.display()),
        format!("--advertise-address={}", address.ip()),
        format!("--secure-port={}", address.port()),
        format!("--service-cluster-ip-range={}", spec.addresses.services),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--enable-bootstrap-token-auth=true".to_owned(),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
        format!("--service-account-issuer={ISSUER}"),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--kubelet-certificate-authority={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("apiserver-kubelet-client.crt")),
        format!("--kubelet-client-key={}", file("apiserver-kubelet-client.key")),
        "--kubelet-preferred-address-types=InternalIP,Hostname".to_owned(),
        // Upstream's suite alone keeps hundreds of requests in flight; the limits guard memory, not fairness.
        "--max-requests-inflight=800".to_owned(),
        "--max-mutating-requests-inflight=400".to_owned(),
    ];
    let flags = apiserver::flags::Flags::read(arguments).context("form the API server's flags")?;
    let extras = apiserver::assemble::Extras {
        store: Some(store),
        workshop: false,
        anonymous: Some(authn::Anonymous::health_only()),
        listen: vec![address],
    };
    apiserver::assemble::start(&flags, extras, shutdown.clone()).await.context("start the API server")
}

/// The gates of controllers and scheduler; the API server, which starts first, refuses what cannot be read.
fn gates(spec: &ControlPlaneSpec) -> features::Gates {
    features::Gates::parse(spec.feature_gates.iter().map(String::as_str)).unwrap_or_default()
}

async fn run_controllers(spec: ControlPlaneSpec, server: Handle, pki: Pki, factory: Factory, shutdown: Shutdown) {
    let layout = Layout::new(&spec.name, spec.data.clone());
    let extras = [
        "*",
        "bootstrap-signer-controller",
        "token-cleaner-controller",
        "local-path-provisioner-controller",
        "node-ip-load-balancer-controller",
    ];
    let options = controllers::Options {
        controllers: extras.iter().map(|name| (*name).to_owned()).collect(),
        local_path: Some(controllers::LocalPath {
            directory: layout.node("{node}").join("volumes").display().to_string(),
            image: format!("corten.local/corten:{}", env!("CARGO_PKG_VERSION")),
        }),
        root_ca_pem: Some(pki.ca_pem()),
        service_account_key_pem: Some(pki.service_account.to_pem()),
        signer_pem: Some((pki.ca.cert_pem(), pki.ca.key_pem())),
        cluster_cidrs: vec![spec.addresses.pods.to_string()],
        pod_groups: gates(&spec).enabled("GenericWorkload"),
        job_gangs: gates(&spec).enabled("WorkloadWithJob"),
        ..controllers::Options::default()
    };
    let client_for = |account: &str| -> Client {
        let user = UserInfo::service_account("kube-system", account);
        in_process::client(&server, user, &format!("kube-controller-manager/{account}"))
    };
    controllers::run(options, factory, client_for, shutdown).await;
}

/// The scheduler calls by its own name, and reads from the same caches as the controllers.
async fn run_scheduler(spec: ControlPlaneSpec, server: Handle, controllers: Factory, shutdown: Shutdown) {
    let client = in_process::client(&server, UserInfo::new(users::SCHEDULER, &[]), "kube-scheduler");
    let factory = controllers.sharing(client.clone());
    let options = scheduler::Options { gates: gates(&spec), ..scheduler::Options::default() };
    scheduler::run(options, client, factory, shutdown).await;
}

/// Routes on the host, so that pods and Services answer there.
async fn host_routes(spec: ControlPlaneSpec, server: Handle, shutdown: Shutdown) {
    let client = in_process::client(&server, UserInfo::new(users::API_SERVER, &[auth_api::groups::MASTERS]), "corten");
    if let Err(error) = dns::ensure_objects(&client, spec.addresses.dns_service()).await {
        tracing::warn!(error = error.chain(), "cannot make what cluster DNS needs");
    }
    if let Err(error) = controllers::ensure_storage_class(&client, "local-path").await {
        tracing::warn!(error = error.chain(), "cannot make the default storage class");
    }
    if let Err(error) = metrics_api::ensure_objects(&client).await {
        tracing::warn!(error = error.chain(), "cannot make the role of those who read metrics");
    }
    let factory = Factory::new(client);
    let follow = local::follow_routes(
        factory.clone(),
        None,
        Some(spec.addresses.services),
        spec.addresses.gateway.trunc(),
        shutdown.clone(),
    );
    factory.start(&shutdown);
    follow.await;
}
