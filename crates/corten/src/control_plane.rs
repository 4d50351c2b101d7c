//! The control-plane process: store, API server, controllers and scheduler.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use apiserver::{Handle, KubeletClient, Listen, PostStart};
use auth_api::{Authorizer, Edit, Lookup, UserInfo, users};
use authn::service_account::Tokens;
use client::{Client, Kubeconfig};
use informer::Factory;
use local::{ControlPlaneSpec, Layout};
use pki::Pki;
use registry::{Access, Registry};
use rt::Shutdown;
use store::{Embedded, EmbeddedOptions};
use wire::{TlsConfig, TlsSource};

use crate::{in_process, routes};

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
    let server = serve(&spec, &pki, store, &shutdown).await?;
    wait_ready(&server).await?;
    println!("ready");
    tracing::info!(seconds = start.elapsed().as_secs_f64(), "control plane is ready");
    let agents = [
        rt::spawn("controllers", run_controllers(spec.clone(), server.clone(), pki.ca_pem(), shutdown.clone())),
        rt::spawn("scheduler", run_scheduler(server.clone(), shutdown.clone())),
        rt::spawn("host routes", host_routes(spec.clone(), server.clone(), shutdown.clone())),
    ];
    shutdown.cancelled().await;
    for agent in agents {
        // They end with the shutdown; a panic was logged where it happened.
        let _ = agent.await;
    }
    Ok(())
}

async fn wait_ready(server: &Handle) -> anyhow::Result<()> {
    let ready = async {
        while !server.ready().await {
            rt::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    rt::time::timeout(std::time::Duration::from_secs(60), ready).await.context("the API server is not ready after 60 s")
}

async fn serve(
    spec: &ControlPlaneSpec,
    pki: &Pki,
    store: Arc<Embedded>,
    shutdown: &Shutdown,
) -> anyhow::Result<Handle> {
    let registry = Registry::new(store, shutdown.clone());
    let services = spec.addresses.services.to_string();
    let ranges = kinds::ServiceRanges {
        cluster_ips: vec![services.parse().map_err(|e: String| anyhow!(e))?],
        node_ports: 30000..=32767,
    };
    for row in kinds::kinds(&kinds::Config::new(ranges)) {
        registry.add(row);
    }
    let access = Arc::new(Access::new(registry.clone()));
    let lookup: Arc<dyn Lookup> = access.clone();
    let edit: Arc<dyn Edit> = access;
    let authorizers =
        Arc::new(authz::Authorizers::start(&[authz::Mode::Node, authz::Mode::Rbac], &lookup, shutdown));
    let authorizer: Arc<dyn Authorizer> = authorizers.clone();
    admit(&registry, &edit, &authorizers)?;
    let tokens = Arc::new(Tokens::new(
        authn::service_account::Config {
            issuers: vec![ISSUER.into()],
            signing_key: Some(pki.service_account.clone()),
            public_keys: Vec::new(),
            api_audiences: Vec::new(),
            jwks_uri: String::new(),
            external_address: format!("{}:{}", spec.addresses.gateway.addr(), spec.addresses.api_port),
            lookup: true,
        },
        lookup.clone(),
    ));
    let authenticator = authenticator(pki, tokens.clone(), &lookup)?;
    let mut config = apiserver::Config::new(registry, authenticator, authorizer, shutdown.clone());
    config.token_issuer = Some(tokens);
    let address = SocketAddr::new(spec.addresses.gateway.addr(), spec.addresses.api_port);
    config.listen = vec![Listen { address, tls: Some(tls(pki)?), insecure: false }];
    config.kubelet = KubeletClient {
        ca: pki.ca_pem().into_bytes(),
        certificate: pki.kubelet_client.cert_pem().into_bytes(),
        key: pki.kubelet_client.key_pem().into_bytes(),
        preferred_address_types: vec!["InternalIP".into(), "Hostname".into()],
    };
    config.advertise = Some(address);
    config.kubernetes_service_ip = Some(spec.addresses.kubernetes_service());
    config.service_cidrs = vec![services];
    config.post_start = vec![
        PostStart {
            name: "rbac/bootstrap-roles",
            run: Box::new(move || {
                let edit = edit.clone();
                Box::pin(async move { authz::bootstrap::reconcile(&*edit).await })
            }),
        },
        PostStart {
            name: "authorization/synced",
            run: Box::new(move || {
                let authorizers = authorizers.clone();
                Box::pin(async move {
                    authorizers.synced().await;
                    Ok(())
                })
            }),
        },
    ];
    apiserver::Server::start(config).await.context("start the API server")
}

fn admit(registry: &Arc<Registry>, edit: &Arc<dyn Edit>, authorizers: &Arc<authz::Authorizers>) -> anyhow::Result<()> {
    let authorizer: Arc<dyn Authorizer> = authorizers.clone();
    let escalation = authorizers.rbac().map(|rbac| Arc::new(authz::rbac::Escalation::new(rbac.clone(), authorizer.clone())));
    let deps = admission::Deps {
        api: edit.clone(),
        authorizer: Some(authorizer),
        escalation,
        webhooks: None,
        settings: admission::Settings::default(),
    };
    let plugins = admission::select(&[], &[]).map_err(|e| anyhow!(e))?;
    registry.set_admit(Arc::new(admission::Chain::new(&plugins, deps)));
    Ok(())
}

fn authenticator(pki: &Pki, tokens: Arc<Tokens>, lookup: &Arc<dyn Lookup>) -> anyhow::Result<Arc<authn::Union>> {
    let front_proxy_ca = pki.front_proxy_ca.cert_pem();
    let front_proxy = authn::FrontProxy::new(&front_proxy_ca, vec!["front-proxy-client".into()], authn::HeaderNames::usual());
    Ok(Arc::new(
        authn::Config {
            front_proxy: Some(front_proxy.context("read the front-proxy authority")?),
            client_certificates: Some(authn::ClientCertificates::new(&pki.ca_pem()).context("read the cluster authority")?),
            tokens: vec![tokens, Arc::new(authn::BootstrapTokens::new(lookup.clone()))],
            api_audiences: vec![ISSUER.into()],
            anonymous: authn::Anonymous::health_only(),
        }
        .build(),
    ))
}

fn tls(pki: &Pki) -> anyhow::Result<TlsConfig> {
    let client_ca = format!("{}{}", pki.ca_pem(), pki.front_proxy_ca.cert_pem());
    let source = TlsSource {
        certificate: pki.api_server.cert_pem().into_bytes(),
        key: pki.api_server.key_pem().into_bytes(),
        client_ca: client_ca.into_bytes(),
    };
    TlsConfig::new(&source).context("set up TLS")
}

async fn run_controllers(spec: ControlPlaneSpec, server: Handle, ca_pem: String, shutdown: Shutdown) {
    let manager = UserInfo::new(users::CONTROLLER_MANAGER, &[]);
    let factory = Factory::new(in_process::client(&server, manager, "kube-controller-manager"));
    let options = controllers::Options {
        root_ca_pem: Some(ca_pem),
        cluster_cidrs: vec![spec.addresses.pods.to_string()],
        ..controllers::Options::default()
    };
    let client_for = |account: &str| -> Client {
        let user = UserInfo::service_account("kube-system", account);
        in_process::client(&server, user, &format!("kube-controller-manager/{account}"))
    };
    controllers::run(options, factory, client_for, shutdown).await;
}

async fn run_scheduler(server: Handle, shutdown: Shutdown) {
    let client = in_process::client(&server, UserInfo::new(users::SCHEDULER, &[]), "kube-scheduler");
    let factory = Factory::new(client.clone());
    scheduler::run(scheduler::Options::default(), client, factory, shutdown).await;
}

/// Routes on the host, so that pods and Services answer there.
async fn host_routes(spec: ControlPlaneSpec, server: Handle, shutdown: Shutdown) {
    let client = in_process::client(&server, UserInfo::new(users::API_SERVER, &[auth_api::groups::MASTERS]), "corten");
    if let Err(error) = crate::agent::ensure_dns_service(&client, spec.addresses.dns_service()).await {
        tracing::warn!(error = error.chain(), "cannot make the DNS Service");
    }
    let factory = Factory::new(client);
    let follow = routes::follow(factory.clone(), None, Some(spec.addresses.services), shutdown.clone());
    factory.start(&shutdown);
    follow.await;
}

/// A client from a kubeconfig file, for components that run alone.
#[allow(dead_code, reason = "used by the components that run alone")]
pub(crate) fn client_from(path: &Path, user_agent: &str) -> anyhow::Result<Client> {
    Ok(Kubeconfig::load(path)?.client(user_agent)?)
}
