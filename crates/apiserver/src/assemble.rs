//! From flags to a running server: storage, authentication, authorization, admission.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use admission::{Chain, Deps, Settings};
use auth_api::{Edit, Lookup};
use authn::{Anonymous, ClientCertificates, FrontProxy, HeaderNames, TokenAuthenticator, TokenFile, Trust};
use authz::Authorizers;
use futures::FutureExt;
use kinds::{Cidr, ServiceRanges};
use registry::backend::{self, Store};
use registry::{Access, Registry};
use rt::Shutdown;
use wire::{TlsConfig, TlsSource};

use crate::config::{Config, EndpointReconciler, KubeletClient, Listen, PostStart};
use crate::flags::{Flags, duration};
use crate::runtime_config::RuntimeConfig;
use crate::server::{Handle, Server, StartError};

/// Where the workshop's plain port listens.
const WORKSHOP_PORT: u16 = 8080;
/// Life of a generated serving certificate.
const CERT_LIFE: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 3600);

/// Why the command ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The flags contradict each other or cannot be used.
    #[error("{0}")]
    Flags(String),
    /// A file that a flag names cannot be read.
    #[error("{flag}: read {}", path.display())]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or certificate cannot be used.
    #[error("{what}")]
    Pki {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: pki::Error,
    },
    /// TLS cannot be set up.
    #[error("set up TLS")]
    Tls(#[from] wire::TlsError),
    /// etcd cannot be used.
    #[error("connect to etcd")]
    Store(#[from] backend::Error),
    /// The encryption's configuration cannot be used.
    #[error("--encryption-provider-config")]
    Encryption(#[from] encryption::config::ConfigError),
    /// Auditing cannot be set up.
    #[error(transparent)]
    Audit(#[from] crate::audit::AuditError),
    /// A port cannot be opened.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What the caller decides besides flags.
#[derive(Default)]
pub struct Extras {
    /// A store in this process, in place of `--etcd-servers`.
    pub store: Option<Arc<dyn Store>>,
    /// The 2019 workshop: an insecure port on localhost:8080, and no service-account flags needed.
    pub workshop: bool,
    /// Who may come without proof, in place of `--anonymous-auth`.
    pub anonymous: Option<Anonymous>,
    /// Addresses to listen on, in place of `--bind-address` and `--secure-port`.
    pub listen: Vec<SocketAddr>,
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, RunError> {
    std::fs::read(path).map_err(|source| RunError::File { flag, path: path.to_owned(), source })
}

pub(crate) fn read_text(flag: &'static str, path: &Path) -> Result<String, RunError> {
    String::from_utf8(read(flag, path)?).map_err(|_| RunError::Flags(format!("{flag}: not a text file")))
}

fn optional(flag: &'static str, path: Option<&PathBuf>) -> Result<Vec<u8>, RunError> {
    path.map_or(Ok(Vec::new()), |p| read(flag, p))
}

fn open_store(flags: &Flags) -> Result<Arc<dyn Store>, RunError> {
    let tls = match &flags.etcd_cafile {
        None => None,
        Some(ca) => Some(backend::EtcdTls {
            ca: read("--etcd-cafile", ca)?,
            identity: match (&flags.etcd_certfile, &flags.etcd_keyfile) {
                (Some(cert), Some(key)) => Some((read("--etcd-certfile", cert)?, read("--etcd-keyfile", key)?)),
                _ => None,
            },
            ..backend::EtcdTls::default()
        }),
    };
    let options =
        backend::EtcdOptions { endpoints: flags.etcd_servers.clone(), tls, ..backend::EtcdOptions::default() };
    Ok(backend::Etcd::connect(options)?)
}

/// The serving certificate: given, kept from an earlier start, or made.
fn serving(flags: &Flags, advertise: IpAddr, service_ip: IpAddr) -> Result<TlsSource, RunError> {
    if let (Some(cert), Some(key)) = (&flags.tls_cert_file, &flags.tls_private_key_file) {
        return Ok(TlsSource {
            certificate: read("--tls-cert-file", cert)?,
            key: read("--tls-private-key-file", key)?,
            request_client_certificate: true,
            ..wire::TlsSource::default()
        });
    }
    let pki = |what| move |source| RunError::Pki { what, source };
    let base = flags.cert_dir.join("apiserver");
    let pair = match pki::files::load_pair(&base).map_err(pki("load the serving certificate"))? {
        Some(pair) => pair,
        None => {
            let ca = pki::Pair::new_ca("apiserver-ca").map_err(pki("make a serving certificate"))?;
            let mut sans = vec![pki::San::Ip(advertise), pki::San::Ip(service_ip)];
            sans.push(pki::San::Ip(IpAddr::from([127, 0, 0, 1])));
            for name in [
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
                "kubernetes.default.svc.cluster.local",
            ] {
                sans.push(pki::San::Dns(name.into()));
            }
            let subject = pki::Subject::new("apiserver", &[]);
            let pair =
                ca.issue(&subject, &sans, pki::Usage::SERVER, CERT_LIFE).map_err(pki("make a serving certificate"))?;
            pki::files::store_pair(&base, &pair, false).map_err(pki("keep the serving certificate"))?;
            pair
        }
    };
    Ok(TlsSource {
        certificate: pair.cert_pem().into_bytes(),
        key: pair.key_pem().into_bytes(),
        request_client_certificate: true,
        ..wire::TlsSource::default()
    })
}

/// The address that others reach us at: the flag, a specific bind address, or that of the default route.
fn advertise_address(flags: &Flags) -> IpAddr {
    if let Some(address) = flags.advertise_address {
        return address;
    }
    if !flags.bind_address.is_unspecified() {
        return flags.bind_address;
    }
    // Connecting a datagram socket sends nothing; it only chooses the source address.
    let chosen = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    chosen.map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip())
}

struct Tokens {
    service_accounts: Option<Arc<authn::service_account::Tokens>>,
    all: Vec<Arc<dyn TokenAuthenticator>>,
    audiences: Vec<String>,
    /// Who may come without proof, when a file says so.
    anonymous: Option<Anonymous>,
}

fn tokens(flags: &Flags, lookup: &Arc<dyn Lookup>, external: String, shutdown: &Shutdown) -> Result<Tokens, RunError> {
    let pki = |what| move |source| RunError::Pki { what, source };
    let audiences =
        if flags.api_audiences.is_empty() { flags.service_account_issuer.clone() } else { flags.api_audiences.clone() };
    let mut all: Vec<Arc<dyn TokenAuthenticator>> = Vec::new();
    if let Some(path) = &flags.token_auth_file {
        let text = read_text("--token-auth-file", path)?;
        all.push(Arc::new(TokenFile::parse(&text, audiences.clone()).map_err(RunError::Flags)?));
    }
    let signing_key = match &flags.service_account_signing_key_file {
        None => None,
        Some(path) => {
            let text = read_text("--service-account-signing-key-file", path)?;
            Some(pki::Key::from_pem(&text).map_err(pki("read the service account signing key"))?)
        }
    };
    let mut public_keys = Vec::new();
    for path in &flags.service_account_key_file {
        let text = read_text("--service-account-key-file", path)?;
        public_keys.extend(pki::PublicKey::all_from_pem(&text).map_err(pki("read the service account keys"))?);
    }
    let mut service_accounts = None;
    if signing_key.is_some() || !public_keys.is_empty() {
        let tokens = Arc::new(authn::service_account::Tokens::new(
            authn::service_account::Config {
                issuers: flags.service_account_issuer.clone(),
                signing_key,
                public_keys,
                api_audiences: audiences.clone(),
                jwks_uri: flags.service_account_jwks_uri.clone(),
                external_address: external,
                lookup: flags.service_account_lookup,
            },
            lookup.clone(),
        ));
        all.push(tokens.clone());
        service_accounts = Some(tokens);
    }
    if flags.enable_bootstrap_token_auth {
        all.push(Arc::new(authn::BootstrapTokens::new(lookup.clone(), audiences.clone())));
    }
    let issuers = crate::auth::issuers(flags, &audiences, shutdown)?;
    all.extend(issuers.tokens);
    Ok(Tokens { service_accounts, all, audiences, anonymous: issuers.anonymous })
}

fn header_names(flags: &Flags) -> HeaderNames {
    HeaderNames {
        user: flags.requestheader_username_headers.clone(),
        group: flags.requestheader_group_headers.clone(),
        extra_prefix: flags.requestheader_extra_headers_prefix.clone(),
        uid: flags.requestheader_uid_headers.clone(),
    }
}

/// What aggregated API servers are told about whom we trust.
fn trust(flags: &Flags) -> Result<Trust, RunError> {
    let pem = |flag, path: &Option<PathBuf>| path.as_ref().map_or(Ok(String::new()), |p| read_text(flag, p));
    Ok(Trust {
        client_ca: pem("--client-ca-file", &flags.client_ca_file)?,
        front_proxy_ca: pem("--requestheader-client-ca-file", &flags.requestheader_client_ca_file)?,
        allowed_names: flags.requestheader_allowed_names.clone(),
        headers: header_names(flags),
    })
}

fn authenticator(flags: &Flags, extras: &Extras, tokens: &Tokens) -> Result<authn::Union, RunError> {
    let pki = |what| move |source| RunError::Pki { what, source };
    let client_certificates = match &flags.client_ca_file {
        None => None,
        Some(path) => {
            let text = read_text("--client-ca-file", path)?;
            Some(ClientCertificates::new(&text).map_err(pki("read the client CA"))?)
        }
    };
    let front_proxy = match &flags.requestheader_client_ca_file {
        None => None,
        Some(path) => {
            let text = read_text("--requestheader-client-ca-file", path)?;
            let names = header_names(flags);
            let allowed = flags.requestheader_allowed_names.clone();
            Some(FrontProxy::new(&text, allowed, names).map_err(pki("read the front-proxy CA"))?)
        }
    };
    let anonymous = match &extras.anonymous {
        Some(given) => given.clone(),
        None if tokens.anonymous.is_some() => tokens.anonymous.clone().unwrap_or_default(),
        None if flags.anonymous_auth && flags.modes() != ["AlwaysAllow"] => Anonymous::Yes,
        None => Anonymous::No,
    };
    let config = authn::Config {
        front_proxy,
        client_certificates,
        tokens: tokens.all.clone(),
        api_audiences: tokens.audiences.clone(),
        anonymous,
    };
    Ok(config.build())
}

/// Starts a server as the flags say.
///
/// # Errors
/// See [`RunError`].
pub async fn start(flags: &Flags, mut extras: Extras, shutdown: Shutdown) -> Result<Handle, RunError> {
    flags.validate(extras.workshop, extras.store.is_some()).map_err(RunError::Flags)?;
    let gates = features::Gates::parse(flags.feature_gates.iter().map(String::as_str))
        .map_err(|e| RunError::Flags(format!("--feature-gates: {e}")))?;
    let shown_gates = gates.clone();
    let delay = duration(&flags.shutdown_delay_duration).map_err(RunError::Flags)?;
    let stopping = shutdown;
    let shutdown = delayed(&stopping, delay);
    let alone = extras.store.is_some();
    let store = match extras.store.take() {
        Some(store) => store,
        None => open_store(flags)?,
    };
    let cidrs: Vec<Cidr> = flags
        .service_cluster_ip_range
        .iter()
        .map(|c| c.parse().map_err(|e| RunError::Flags(format!("--service-cluster-ip-range: {e}"))))
        .collect::<Result<_, _>>()?;
    let first = cidrs.first().ok_or_else(|| RunError::Flags("--service-cluster-ip-range must be specified".into()))?;
    let service_ip = first.nth(1);
    let ranges = ServiceRanges { cluster_ips: cidrs.clone(), node_ports: flags.node_ports().map_err(RunError::Flags)? };
    let encryption = crate::sealing::load(flags, &shutdown).await?;
    let sealer = encryption.clone().map(|e| e as Arc<dyn registry::Sealer>);
    let registry = Registry::with_sealer(store, shutdown.clone(), sealer);
    let mut rows = kinds::Config::new(ranges);
    rows.pod_groups = gates.enabled("GenericWorkload");
    let wanted = RuntimeConfig::parse(&flags.runtime_config).map_err(RunError::Flags)?;
    for row in wanted.apply(kinds::kinds(&rows)).map_err(RunError::Flags)? {
        registry.add(row);
    }
    let access = Access::new(registry.clone());
    let lookup: Arc<dyn Lookup> = Arc::new(access.clone());
    let edit: Arc<dyn Edit> = Arc::new(access);
    let advertise = advertise_address(flags);
    let host = if flags.external_hostname.is_empty() { advertise.to_string() } else { flags.external_hostname.clone() };
    let tokens = tokens(flags, &lookup, format!("{host}:{}", flags.secure_port), &shutdown)?;
    let authenticator = authenticator(flags, &extras, &tokens)?;
    let authorizers = Arc::new(Authorizers::start(&crate::auth::members(flags)?, &lookup, &shutdown));
    crate::auth::follow_authorizers(flags, &authorizers, &shutdown);
    let plugins = admission::select(&flags.enable_admission_plugins, &flags.disable_admission_plugins)
        .map_err(RunError::Flags)?;
    let escalation =
        authorizers.rbac().map(|rbac| Arc::new(authz::rbac::Escalation::new(rbac.clone(), authorizers.clone())));
    let configs = match &flags.admission_control_config_file {
        Some(path) => {
            admission::Configs::load(path).map_err(|e| RunError::Flags(format!("failed to read plugin config: {e}")))?
        }
        None => admission::Configs::default(),
    };
    let chain = Chain::new(
        &plugins,
        Deps {
            api: edit.clone(),
            authorizer: Some(authorizers.clone()),
            escalation,
            webhooks: None,
            settings: Settings {
                not_ready_toleration_seconds: flags.default_not_ready_toleration_seconds,
                unreachable_toleration_seconds: flags.default_unreachable_toleration_seconds,
                workshop: extras.workshop,
                configs,
                gates,
            },
        },
    )
    .map_err(RunError::Flags)?;
    registry.set_admit(Arc::new(chain));
    let mut config = Config::new(registry, Arc::new(authenticator), authorizers.clone(), shutdown);
    config.stopping = stopping;
    config.gates = shown_gates;
    config.shown_flags.clone_from(&flags.shown);
    config.endpoint_reconciler = match flags.endpoint_reconciler_type.as_str() {
        "none" => EndpointReconciler::None,
        "master-count" => EndpointReconciler::MasterCount(flags.apiserver_count),
        _ if alone => EndpointReconciler::Alone,
        _ => EndpointReconciler::Lease,
    };
    config.encryption = encryption;
    config.auditor = crate::audit::Auditor::new(&flags.audit, &config.shutdown)?;
    config.token_issuer = tokens.service_accounts.map(|t| t as _);
    config.listen = listeners(flags, &extras, advertise, service_ip, &config.shutdown)?;
    config.advertise = Some(SocketAddr::new(advertise, flags.secure_port));
    config.kubernetes_service_ip = Some(service_ip);
    config.service_cidrs = cidrs.iter().map(ToString::to_string).collect();
    config.kubelet = KubeletClient {
        ca: optional("--kubelet-certificate-authority", flags.kubelet_certificate_authority.as_ref())?,
        certificate: optional("--kubelet-client-certificate", flags.kubelet_client_certificate.as_ref())?,
        key: optional("--kubelet-client-key", flags.kubelet_client_key.as_ref())?,
        preferred_address_types: flags.kubelet_preferred_address_types.clone(),
    };
    config.proxy_client = (
        optional("--proxy-client-cert-file", flags.proxy_client_cert_file.as_ref())?,
        optional("--proxy-client-key-file", flags.proxy_client_key_file.as_ref())?,
    );
    config.request_timeout = duration(&flags.request_timeout).map_err(RunError::Flags)?;
    config.min_request_timeout = std::time::Duration::from_secs(flags.min_request_timeout);
    config.priority_and_fairness = flags.enable_priority_and_fairness;
    config.max_requests_inflight = flags.max_requests_inflight;
    config.max_mutating_requests_inflight = flags.max_mutating_requests_inflight;
    let longest = duration(&flags.service_account_max_token_expiration).map_err(RunError::Flags)?;
    config.max_token_expiration = i64::try_from(longest.as_secs()).unwrap_or(0);
    config.compaction_interval = duration(&flags.etcd_compaction_interval).map_err(RunError::Flags)?;
    post_start(&mut config, &edit, &authorizers);
    repair_services(&mut config, rows.service_hooks.clone());
    publish_trust(&mut config, trust(flags)?, edit);
    Ok(Server::start(config).await?)
}

/// Makes claims on cluster IPs fit the services, at start and every three minutes, as upstream: what a crash between two writes
/// left, nobody tells.
fn repair_services(config: &mut Config, hooks: Arc<kinds::ServiceHooks>) {
    const INTERVAL: std::time::Duration = std::time::Duration::from_secs(180);
    let (registry, shutdown) = (config.registry.clone(), config.shutdown.clone());
    config.post_start.push(PostStart {
        name: "start-service-ip-repair-controllers",
        run: Box::new(move || {
            let (hooks, registry, shutdown) = (hooks.clone(), registry.clone(), shutdown.clone());
            async move {
                hooks.repair(&registry).await?;
                rt::spawn("service-repair", async move {
                    while shutdown.run(rt::time::sleep(INTERVAL)).await.is_some() {
                        if let Err(error) = hooks.repair(&registry).await {
                            tracing::warn!(%error, "repair of service addresses failed");
                        }
                    }
                });
                Ok(())
            }
            .boxed()
        }),
    });
}

fn publish_trust(config: &mut Config, trust: Trust, edit: Arc<dyn Edit>) {
    config.post_start.push(PostStart {
        name: "start-cluster-authentication-info-controller",
        run: Box::new(move || {
            let (trust, edit) = (trust.clone(), edit.clone());
            async move { trust.publish(&*edit).await }.boxed()
        }),
    });
}

fn post_start(config: &mut Config, edit: &Arc<dyn Edit>, authorizers: &Arc<Authorizers>) {
    let synced = authorizers.clone();
    config.post_start.push(PostStart {
        name: "authorizers-synced",
        run: Box::new(move || {
            let synced = synced.clone();
            async move {
                synced.synced().await;
                Ok(())
            }
            .boxed()
        }),
    });
    if authorizers.rbac().is_some() {
        let edit = edit.clone();
        let extras = authz::bootstrap::Extras {
            pod_groups: config.gates.enabled("GenericWorkload"),
            job_gangs: config.gates.enabled("WorkloadWithJob"),
        };
        config.post_start.push(PostStart {
            name: "rbac/bootstrap-roles",
            run: Box::new(move || {
                let edit = edit.clone();
                async move { authz::bootstrap::reconcile(&*edit, extras).await }.boxed()
            }),
        });
    }
}

/// The shutdown that comes some time after the one announced.
fn delayed(announced: &Shutdown, delay: std::time::Duration) -> Shutdown {
    if delay.is_zero() {
        return announced.clone();
    }
    let (announced, later) = (announced.clone(), Shutdown::new());
    let end = later.clone();
    rt::spawn("shutdown-delay", async move {
        announced.cancelled().await;
        tracing::info!(seconds = delay.as_secs(), "not ready any more; still answering for a while");
        rt::time::sleep(delay).await;
        end.cancel();
    });
    later
}

/// Takes a serving certificate into use whenever its file or its key's changes. While only one of the two was replaced, they do not
/// fit, and the old pair stays.
fn follow_certificate(flags: &Flags, tls: &TlsConfig, shutdown: &Shutdown) {
    let (Some(cert), Some(key)) = (&flags.tls_cert_file, &flags.tls_private_key_file) else { return };
    for path in [cert, key] {
        let (cert, key, tls) = (cert.clone(), key.clone(), tls.clone());
        let known = std::fs::read(path).unwrap_or_default();
        let apply: crate::follow::Apply = Box::new(move |_| {
            let source = std::fs::read(&cert).and_then(|certificate| {
                let key = std::fs::read(&key)?;
                Ok(TlsSource { certificate, key, request_client_certificate: true, ..TlsSource::default() })
            });
            let done = source.map_err(|e| e.to_string()).and_then(|s| tls.replace(&s).map_err(|e| e.to_string()));
            async move { done }.boxed()
        });
        crate::follow::follow("serving certificate", path.clone(), &known, shutdown.clone(), apply);
    }
}

fn listeners(
    flags: &Flags,
    extras: &Extras,
    advertise: IpAddr,
    service_ip: IpAddr,
    shutdown: &Shutdown,
) -> Result<Vec<Listen>, RunError> {
    let tls = TlsConfig::new(&serving(flags, advertise, service_ip)?)?;
    follow_certificate(flags, &tls, shutdown);
    let addresses = if extras.listen.is_empty() {
        vec![SocketAddr::new(flags.bind_address, flags.secure_port)]
    } else {
        extras.listen.clone()
    };
    let mut all: Vec<Listen> =
        addresses.into_iter().map(|address| Listen { address, tls: Some(tls.clone()), insecure: false }).collect();
    if extras.workshop {
        let address = SocketAddr::from(([127, 0, 0, 1], WORKSHOP_PORT));
        all.push(Listen { address, tls: None, insecure: true });
    }
    Ok(all)
}
