//! A control plane without nodes: an etcd and API servers, each a process of the test's own.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pki::Pki;

/// Longest wait for a start.
const LIMIT: Duration = Duration::from_secs(60);

/// A port that nobody listens on.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

/// A running process; dropping it kills it.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a program and waits until a line that it writes to standard error has a text.
    ///
    /// # Errors
    /// It does not start, ends, or does not say so.
    pub fn start(mut command: Command, ready: &'static str) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let errors = child.stderr.take().context("no pipe")?;
        let log = Arc::new(Mutex::new(String::new()));
        let process = Self { child, log: log.clone() };
        let (send, seen) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let is_ready = line.contains(ready);
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
                if is_ready {
                    // Nobody waits any more after the first.
                    let _ = send.send(());
                }
            }
        });
        match seen.recv_timeout(LIMIT) {
            Ok(()) => Ok(process),
            Err(RecvTimeoutError::Timeout) => bail!("{command:?} does not say {ready:?}: {}", process.log()),
            Err(RecvTimeoutError::Disconnected) => bail!("{command:?} ended: {}", process.log()),
        }
    }

    /// What it has said.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Our own etcd, with its data in a folder.
///
/// # Errors
/// It does not start.
pub fn own_etcd(binary: &Path, data: &Path) -> Result<(Process, String)> {
    let url = format!("http://127.0.0.1:{}", free_port()?);
    let mut command = Command::new(binary);
    command.arg("etcd").arg("--data-dir").arg(data);
    command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    Ok((Process::start(command, "serving insecure on")?, url))
}

/// An API server with keys in a folder; those of the same folder are of one cluster.
pub struct ApiServer {
    /// The process.
    pub process: Process,
    /// Its keys.
    pub pki: Pki,
    /// Where it listens.
    pub url: String,
    kubeconfig: PathBuf,
}

impl ApiServer {
    /// Starts one on an etcd, with flags beside those that it needs, and waits until it serves.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(binary: &Path, dir: &Path, etcd: &str, flags: &[String]) -> Result<Self> {
        let params =
            pki::Params { service_ips: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))], ..pki::Params::default() };
        let keys = dir.join("pki");
        let pki = Pki::load_or_create(&keys, &params).context("make keys")?;
        let port = free_port()?;
        let url = format!("https://127.0.0.1:{port}");
        let file = |name: &str| keys.join(name).display().to_string();
        let mut command = Command::new(binary);
        command.args([
            "kube-apiserver".to_owned(),
            format!("--etcd-servers={etcd}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".into(),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
            format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            format!("--service-account-key-file={}", file("sa.pub")),
        ]);
        command.args(flags);
        let process = Process::start(command, "API server started")?;
        let admin = pki.issue_admin().context("make the administrator's certificate")?;
        let text = pki::kubeconfig(&url, &pki.ca_pem(), "test", "admin", &pki::Identity::Certificate(&admin));
        let kubeconfig = dir.join(format!("kubeconfig-{port}"));
        std::fs::write(&kubeconfig, text).context("write a kubeconfig")?;
        Ok(Self { process, pki, url, kubeconfig })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}
