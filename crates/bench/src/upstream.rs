//! Upstream's control plane on this machine, started as Corten's would be: TLS, RBAC, durable.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use client::{Client, Kubeconfig};
use http::Method;
use pki::{Identity, Params, Pki};

use crate::subject::Subject;
use crate::table::Measured;

const LIMIT: Duration = Duration::from_secs(60);
/// What together makes upstream's control plane.
const BINARIES: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/// With these, what Corten's one binary holds.
const NODE_BINARIES: [&str; 2] = ["kubelet", "kube-proxy"];

/// The sizes of upstream's binaries in MiB, if those of a node are there as well.
pub(crate) fn size(dir: &Path) -> Result<Option<f64>> {
    let files: Vec<PathBuf> = BINARIES.iter().chain(&NODE_BINARIES).map(|name| dir.join(name)).collect();
    if files.iter().any(|file| !file.exists()) {
        return Ok(None);
    }
    crate::start::size(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>()).map(Some)
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// etcd, API server, controller manager and scheduler.
pub(crate) struct ControlPlane {
    kubeconfig: PathBuf,
    // Ended in this order; the folder goes last.
    scheduler: Running,
    scheduler_port: u16,
    controllers: Running,
    api: Running,
    etcd: Running,
    _data: tempfile::TempDir,
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

struct Starter<'a> {
    binaries: &'a Path,
    data: &'a Path,
}

impl Starter<'_> {
    fn start(&self, name: &str, arguments: &[String]) -> Result<Running> {
        let program = self.binaries.join(name);
        let log = std::fs::File::create(self.data.join(format!("{name}.log"))).context("create a log")?;
        let child = Command::new(&program)
            .args(arguments)
            .current_dir(self.data)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share a log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Running(child))
    }

    fn etcd(&self, client: u16, peer: u16) -> Result<Running> {
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        self.start(
            "etcd",
            &[
                format!("--data-dir={}", self.data.join("etcd").display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
            ],
        )
    }

    /// The scheduler, with the limits of requests that scheduler_perf gives it: its default of 50 a second would be all
    /// that is measured.
    fn scheduler(&self, kubeconfig: &Path, port: u16) -> Result<Running> {
        let config = self.data.join("scheduler.yaml");
        let text = format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nclientConnection:\n  \
             kubeconfig: {}\n  qps: 5000\n  burst: 5000\nleaderElection:\n  leaderElect: false\n",
            kubeconfig.display()
        );
        std::fs::write(&config, text).context("write the scheduler's configuration")?;
        self.start(
            "kube-scheduler",
            &[
                format!("--config={}", config.display()),
                "--bind-address=127.0.0.1".into(),
                format!("--secure-port={port}"),
                format!("--cert-dir={}", self.data.join("scheduler-tls").display()),
                "--authorization-always-allow-paths=/metrics,/healthz".into(),
            ],
        )
    }

    fn api(&self, etcd: u16, port: u16, pki: &Path) -> Result<Running> {
        let file = |name: &str| pki.join(name).display().to_string();
        self.start(
            "kube-apiserver",
            &[
                format!("--etcd-servers=http://127.0.0.1:{etcd}"),
                "--bind-address=127.0.0.1".into(),
                format!("--secure-port={port}"),
                "--service-cluster-ip-range=10.96.0.0/16".into(),
                "--authorization-mode=Node,RBAC".into(),
                format!("--client-ca-file={}", file("ca.crt")),
                format!("--tls-cert-file={}", file("apiserver.crt")),
                format!("--tls-private-key-file={}", file("apiserver.key")),
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
                format!("--service-account-signing-key-file={}", file("sa.key")),
                format!("--service-account-key-file={}", file("sa.pub")),
            ],
        )
    }
}

fn client(kubeconfig: &Path) -> Result<Client> {
    Kubeconfig::load(kubeconfig).and_then(|k| k.client("bench")).context("use the kubeconfig")
}

async fn ready(client: &Client) -> Result<()> {
    let asking = async {
        while client.call(Method::GET, "/readyz", None, Default::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, asking).await.context("upstream's API server is not ready in time")
}

impl ControlPlane {
    /// Starts it, and measures the start of etcd and API server. Keys are made before, which Corten does within its time.
    pub(crate) async fn start(binaries: &Path, measured: &mut Measured) -> Result<Self> {
        let binaries = binaries.canonicalize().with_context(|| format!("find {}", binaries.display()))?;
        let folder = tempfile::tempdir().context("make a data folder")?;
        let data = folder.path();
        let pki_dir = data.join("pki");
        let params = Params { addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)], ..Params::default() };
        let pki = Pki::load_or_create(&pki_dir, &params).context("make keys")?;
        let (etcd_port, peer_port, port) = (free_port()?, free_port()?, free_port()?);
        let admin = pki.issue_admin().context("make the administrator's certificate")?;
        let server = format!("https://127.0.0.1:{port}");
        let text = pki::kubeconfig(&server, &pki.ca_pem(), "upstream", "admin", &Identity::Certificate(&admin));
        let kubeconfig = data.join("kubeconfig");
        std::fs::write(&kubeconfig, text).context("write the kubeconfig")?;
        let starter = Starter { binaries: &binaries, data };
        let begun = Instant::now();
        let etcd = starter.etcd(etcd_port, peer_port)?;
        let api = starter.api(etcd_port, port, &pki_dir)?;
        ready(&client(&kubeconfig)?).await?;
        measured.set("api-ready", begun.elapsed().as_secs_f64());
        let with_config = format!("--kubeconfig={}", kubeconfig.display());
        let controllers = starter.start(
            "kube-controller-manager",
            &[
                with_config,
                "--secure-port=0".into(),
                "--use-service-account-credentials=true".into(),
                // As the scheduler: 5,000 nodes are not to be waited for at 20 writes a second.
                "--kube-api-qps=5000".into(),
                "--kube-api-burst=5000".into(),
                format!("--service-account-private-key-file={}", pki_dir.join("sa.key").display()),
                format!("--root-ca-file={}", pki_dir.join("ca.crt").display()),
            ],
        )?;
        let scheduler_port = free_port()?;
        let scheduler = starter.scheduler(&kubeconfig, scheduler_port)?;
        Ok(Self { kubeconfig, scheduler, scheduler_port, controllers, api, etcd, _data: folder })
    }

    /// All its processes.
    pub(crate) fn all(&self) -> Vec<u32> {
        [&self.etcd, &self.api, &self.controllers, &self.scheduler].iter().map(|running| running.0.id()).collect()
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject {
            kubeconfig: self.kubeconfig.clone(),
            holders: vec![self.etcd.0.id(), self.api.0.id()],
            scheduler: Some(format!("https://127.0.0.1:{}", self.scheduler_port)),
        }
    }
}
