//! `corten up`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api::Kind;
use api::k8s::core::v1::Node;
use clap::Args;
use client::{Client, Kubeconfig, ListParams, WatchEvent, WatchParams};
use local::{Addresses, ClusterState, ControlPlaneSpec, Layout, NodeSpec, NodeState, Pid};
use pki::{Identity, Params, Pki, San};
use rt::Shutdown;

use crate::cmd::{demo, down};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Longest wait for the nodes to be ready.
const READY_LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

/// Start a cluster on this machine, or complete one that is half there.
#[derive(Debug, Args)]
pub struct Up {
    /// Number of nodes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    nodes: u8,
    /// Name of the cluster; several run side by side.
    #[arg(long, default_value = "default")]
    name: String,
    /// Folder for what survives `down`. Default: /var/lib/corten/NAME.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Write the administrator's kubeconfig to this file as well.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Return when the cluster is ready; end it with `corten down`.
    #[arg(long)]
    detach: bool,
    /// Feature gates of API server, controllers and scheduler, `Name=true`. They count when the control plane starts.
    #[arg(long, value_delimiter = ',', value_name = "GATES")]
    feature_gates: Vec<String>,
    /// API versions to serve beside the usual ones, `group/version=true`.
    #[arg(long, value_delimiter = ',', value_name = "VERSIONS")]
    runtime_config: Vec<String>,
    /// Run a small demonstration once the cluster is ready.
    #[arg(long)]
    demo: bool,
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |source| Error::File { doing: "write", path: path.display().to_string(), source };
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(fail)?;
    }
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path).map_err(fail)?;
    file.write_all(bytes).map_err(fail)
}

fn check_name(name: &str) -> Result<()> {
    match meta::names::dns1123_label(name).into_iter().next() {
        Some(message) => Err(Error::Other(format!("--name {name:?}: {message}"))),
        None => Ok(()),
    }
}

struct Starter {
    layout: Layout,
    state: ClusterState,
    progress: Progress,
}

impl Up {
    /// Runs the command; a shutdown before the cluster is ready ends what was started.
    ///
    /// # Errors
    /// What kept the cluster from getting ready. What was started stays, for a look at its logs; `corten down` ends it.
    pub async fn run(self, shutdown: Shutdown) -> Result<()> {
        check_name(&self.name)?;
        crate::need_root("corten up", "it makes namespaces, a bridge and cgroups")?;
        let progress = Progress::start();
        let data = self.data_dir.clone().unwrap_or_else(|| local::default_data_dir(&self.name));
        let layout = Layout::new(&self.name, data);
        let state = self.state(&layout)?;
        let layout = Layout::new(&self.name, state.data.clone());
        let mut starter = Starter { layout, state, progress };
        match shutdown.run(self.start(&mut starter)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                let (logs, name) = (starter.layout.data.join("log"), down::name_flag(&self.name));
                eprintln!(
                    "What was started is still there, with its logs in {}. End it with: corten down{name}",
                    logs.display()
                );
                return Err(error);
            }
            None => {
                starter.stop()?;
                return Err(Error::Interrupted);
            }
        }
        self.print_how_to(&starter);
        if self.detach {
            return Ok(());
        }
        shutdown.cancelled().await;
        starter.stop()
    }

    async fn start(&self, starter: &mut Starter) -> Result<()> {
        starter.lay_network()?;
        let pki = starter.keys()?;
        starter.kubeconfig(&pki, self.kubeconfig.as_deref())?;
        starter.control_plane(self)?;
        for number in 1..=self.nodes {
            // Ctrl-C is looked at between the steps.
            rt::yield_now().await;
            starter.node(number, &pki)?;
        }
        let client = Kubeconfig::load(&starter.layout.kubeconfig())?.client("corten-up")?;
        starter.wait_ready(&client, self.nodes).await?;
        if self.demo {
            demo::run(&client, &starter.progress).await?;
        }
        Ok(())
    }

    fn state(&self, layout: &Layout) -> Result<ClusterState> {
        if let Some(state) = ClusterState::load(layout)? {
            if state.data != layout.data && self.data_dir.is_some() {
                let (name, data) = (&self.name, state.data.display());
                return Err(Error::Other(format!("cluster {name:?} runs already, with its data in {data}")));
            }
            return Ok(state);
        }
        // The addresses stay the same from one start to the next, as certificates and Services name them.
        let before = std::fs::read(layout.control_plane_spec()).ok();
        let before: Option<ControlPlaneSpec> = before.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let slot = local::claim_slot(&self.name, before.map(|spec| spec.addresses.slot))?;
        Ok(ClusterState {
            name: self.name.clone(),
            data: layout.data.clone(),
            addresses: Addresses::of_slot(slot),
            changed: Default::default(),
            control_plane: None,
            nodes: Vec::new(),
        })
    }

    fn print_how_to(&self, starter: &Starter) {
        let path = self.kubeconfig.clone().unwrap_or_else(|| starter.layout.kubeconfig());
        eprintln!();
        eprintln!("Use it with any kubectl:");
        eprintln!("  export KUBECONFIG={}", path.display());
        eprintln!("  kubectl get pods -A");
        if self.detach {
            eprintln!("End it with: corten down{}", down::name_flag(&self.name));
        } else {
            eprintln!("Ctrl-C ends it.");
        }
    }
}

impl Starter {
    fn stop(&self) -> Result<()> {
        eprintln!();
        self.progress.done("stopping");
        down::end(&self.layout, &self.state)?;
        let (name, data) = (&self.state.name, self.layout.data.display());
        self.progress
            .done(format!("stopped; the state is kept in {data}, `corten up{}` brings it back", down::name_flag(name)));
        Ok(())
    }

    fn save(&self) -> Result<()> {
        Ok(self.state.store(&self.layout)?)
    }

    fn lay_network(&mut self) -> Result<()> {
        // Known before anything is changed, so that a start that is cut off can be undone.
        self.save()?;
        let changed = local::lay(&self.state.addresses)?;
        for (key, value) in changed.sysctls {
            self.state.changed.sysctls.entry(key).or_insert(value);
        }
        self.save()?;
        let addresses = &self.state.addresses;
        self.progress.done(format!(
            "network: bridge {}, pods {}, services {}",
            addresses.bridge, addresses.pods, addresses.services
        ));
        Ok(())
    }

    fn keys(&self) -> Result<Pki> {
        let addresses = &self.state.addresses;
        let params = Params {
            addresses: vec![addresses.gateway.addr()],
            service_ips: vec![addresses.kubernetes_service()],
            ..Params::default()
        };
        Ok(Pki::load_or_create(&self.layout.pki(), &params)?)
    }

    fn kubeconfig(&self, pki: &Pki, copy: Option<&Path>) -> Result<()> {
        let admin = pki.client_at(&self.layout.pki().join("admin"), "kubernetes-admin", &["system:masters"])?;
        let name = format!("corten-{}", self.state.name);
        let text = pki::kubeconfig(
            &self.state.addresses.api_url(),
            &pki.ca_pem(),
            &name,
            "admin",
            &Identity::Certificate(&admin),
        );
        write_private(&self.layout.kubeconfig(), text.as_bytes())?;
        copy.map_or(Ok(()), |path| write_private(path, text.as_bytes()))
    }

    fn control_plane(&mut self, up: &Up) -> Result<()> {
        if self.state.control_plane.is_some_and(|pid| pid.is_alive()) {
            self.progress.done("control plane runs already");
            return Ok(());
        }
        let spec = ControlPlaneSpec {
            name: self.state.name.clone(),
            data: self.layout.data.clone(),
            addresses: self.state.addresses.clone(),
            feature_gates: up.feature_gates.clone(),
            runtime_config: up.runtime_config.clone(),
        };
        let path = self.layout.control_plane_spec();
        write_private(&path, &json(&spec)?)?;
        let log = self.layout.log("control-plane");
        let mut spawned = local::spawn("control-plane", &path, &log)?;
        self.state.control_plane = Some(spawned.pid()?);
        self.save()?;
        spawned.report().map_err(|e| failed("the control plane", &e, &log))?;
        self.progress.done(format!("API server ready at {}", self.state.addresses.api_url()));
        Ok(())
    }

    fn node(&mut self, number: u8, pki: &Pki) -> Result<()> {
        let name = format!("{}-node-{number}", self.state.name);
        let known = self.state.nodes.iter().find(|n| n.number == number);
        if known.and_then(|n| n.holder).is_some_and(|pid| pid.is_alive()) {
            return Ok(());
        }
        let address = self.state.addresses.node(number);
        let spec = NodeSpec {
            cluster: self.state.name.clone(),
            data: self.layout.data.clone(),
            name: name.clone(),
            address,
            addresses: self.state.addresses.clone(),
        };
        let dir = self.layout.node(&name);
        pki.client_at(&dir.join("kubelet-client"), &format!("system:node:{name}"), &["system:nodes"])?;
        pki.client_at(&dir.join("proxy-client"), "system:kube-proxy", &[])?;
        pki.client_at(&dir.join("dns-client"), "system:coredns", &[])?;
        let sans = [San::Dns(name.clone()), San::Ip(address.addr())];
        pki.server_at(&dir.join("kubelet-server"), &format!("system:node:{name}"), &sans)?;
        let path = self.layout.node_spec(&name);
        write_private(&path, &json(&spec)?)?;
        let log = self.layout.log(&name);
        let mut spawned = local::spawn("node-holder", &path, &log)?;
        let report = spawned.report().map_err(|e| failed(&format!("node {name}"), &e, &log))?;
        let pid = report.parse().ok().and_then(Pid::of);
        let holder = pid.ok_or_else(|| Error::Other(format!("node {name} ended at once; see {}", log.display())))?;
        self.state.nodes.retain(|n| n.number != number);
        self.state.nodes.push(NodeState { name: name.clone(), number, holder: Some(holder) });
        self.save()?;
        local::attach(&self.state.addresses, &name, address, holder.pid)?;
        spawned.release();
        Ok(())
    }

    async fn wait_ready(&self, client: &Client, wanted: u8) -> Result<()> {
        let waiting = self.watch_nodes(client, wanted);
        match tokio::time::timeout(READY_LIMIT, waiting).await {
            Ok(done) => done,
            Err(_) => Err(Error::Other(format!(
                "the nodes are not ready after {} s; the logs are in {}",
                READY_LIMIT.as_secs(),
                self.layout.data.join("log").display()
            ))),
        }
    }

    async fn watch_nodes(&self, client: &Client, wanted: u8) -> Result<()> {
        let failed = |source| Error::Api { doing: "wait for the nodes", source: Box::new(source) };
        let list = client.list::<Node>("", &ListParams::default()).await.map_err(failed)?;
        let mut ready = Vec::new();
        for node in &list.items {
            self.note_ready(node, &mut ready);
        }
        let params = WatchParams { resource_version: list.resource_version, ..WatchParams::default() };
        let mut stream = client.watch::<Node>("", &params).await.map_err(failed)?;
        while ready.len() < usize::from(wanted) {
            match stream.next().await.map_err(failed)? {
                Some(WatchEvent::Added(node) | WatchEvent::Modified(node)) => self.note_ready(&node, &mut ready),
                Some(_) => {}
                None => return Err(Error::Other("the API server ended the watch on nodes".into())),
            }
        }
        Ok(())
    }

    fn note_ready(&self, node: &Node, ready: &mut Vec<String>) {
        // A node of an earlier start may still be called ready: its agent must be running now.
        let ours = self.state.nodes.iter().any(|n| n.name == node.name());
        let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let is_ready = conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True");
        if ours && is_ready && !ready.iter().any(|n| n == node.name()) {
            self.progress.done(format!("node {} is Ready", node.name()));
            ready.push(node.name().to_owned());
        }
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|e| Error::Other(e.to_string()))
}

/// Lines of a failed process' log that are shown.
const SHOWN_LINES: usize = 3;

/// The end of a process with the last that it said.
fn failed(what: &str, error: &local::Error, log: &Path) -> Error {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n  ");
    Error::Other(format!("{what} failed: {error}; the end of {}:\n  {last}", log.display()))
}
