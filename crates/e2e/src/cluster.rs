//! A cluster started by the binary, as a person would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::Kind;
use client::{Client, Kubeconfig, WatchEvent, WatchParams};
use local::{ClusterState, Layout};

/// The binary under test: the variable `CORTEN_BIN`, which `cargo xtask test` sets.
pub fn binary() -> Option<PathBuf> {
    std::env::var_os("CORTEN_BIN").map(PathBuf::from)
}

/// The oldest kubectl that is used: `1.30`.
const OLDEST_KUBECTL: u32 = 30;

/// A kubectl that is new enough: what the variable `KUBECTL` names, else that on PATH, else the one that `.ci/kubectl`
/// keeps in `target/tools`.
pub fn kubectl() -> Option<PathBuf> {
    let named = std::env::var_os("KUBECTL").map(PathBuf::from);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/kubectl");
    named.into_iter().chain(crate::image::find("kubectl")).chain([kept]).find(|program| new_enough(program))
}

fn new_enough(kubectl: &Path) -> bool {
    let output = Command::new(kubectl).args(["version", "--client", "-o", "json"]).output();
    let Ok(output) = output else { return false };
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
    minor.trim_end_matches('+').parse().is_ok_and(|minor: u32| minor >= OLDEST_KUBECTL)
}

/// The image that every cluster has.
pub fn image() -> String {
    format!("corten.local/corten:{}", env!("CARGO_PKG_VERSION"))
}

/// A cluster; dropping it ends it and removes all of it.
pub struct Cluster {
    binary: PathBuf,
    name: String,
    nodes: u8,
    data: tempfile::TempDir,
    ended: bool,
}

impl Cluster {
    /// Starts a cluster with a data folder of its own and waits until its nodes are ready.
    ///
    /// # Errors
    /// It did not start; what was started is ended.
    pub fn up(binary: &Path, name: &str, nodes: u8) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("corten-e2e-").tempdir().context("make a data folder")?;
        let cluster = Self { binary: binary.to_owned(), name: name.to_owned(), nodes, data, ended: false };
        cluster.up_again()?;
        Ok(cluster)
    }

    /// Runs `corten up` once more: it completes what is half there.
    ///
    /// # Errors
    /// As of the command.
    pub fn up_again(&self) -> Result<()> {
        let nodes = self.nodes.to_string();
        let mut command = self.command(&["up", "--detach", "--nodes", &nodes]);
        command.arg("--data-dir").arg(self.data_dir());
        finish(command)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).args(["--name", &self.name]).stdin(Stdio::null());
        command
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().join("data")
    }

    fn layout(&self) -> Layout {
        Layout::new(&self.name, self.data_dir())
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout().kubeconfig()
    }

    /// A client as the administrator.
    ///
    /// # Errors
    /// The kubeconfig is unusable.
    pub fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::load(&self.kubeconfig()).context("load the kubeconfig")?;
        kubeconfig.client("e2e").context("use the kubeconfig")
    }

    /// How registries are reached.
    pub fn registries(&self) -> PathBuf {
        self.layout().registries()
    }

    /// Runs the binary with these words and this cluster's name, and gives what it prints.
    ///
    /// # Errors
    /// It failed; its words are in the error.
    pub fn corten(&self, words: &[&str]) -> Result<String> {
        let output = self.command(words).output().context("start corten")?;
        if !output.status.success() {
            bail!("corten {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What runs.
    ///
    /// # Errors
    /// The state file is unusable, or nothing runs.
    pub fn state(&self) -> Result<ClusterState> {
        ClusterState::load(&self.layout()).context("load the cluster's state")?.context("the cluster does not run")
    }

    /// Runs kubectl and gives what it prints.
    ///
    /// # Errors
    /// It failed; its words are in the error.
    pub fn kubectl(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let output = Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {}", program.display()))?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends the cluster and removes its data.
    ///
    /// # Errors
    /// As of the command.
    pub fn down(mut self) -> Result<()> {
        self.ended = true;
        self.end()
    }

    fn end(&self) -> Result<()> {
        let mut command = self.command(&["down", "--purge"]);
        command.arg("--data-dir").arg(self.data_dir());
        finish(command)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.end()
        {
            eprintln!("{error:#}");
        }
    }
}

fn finish(mut command: Command) -> Result<()> {
    let status = command.status().context("start corten")?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Follows an object until it is as wanted; `None` asks for its end.
///
/// # Errors
/// It is not within the limit, or the watch failed.
pub async fn wait_for<T: Kind>(
    client: &Client,
    namespace: &str,
    name: &str,
    limit: Duration,
    wanted: impl Fn(Option<&T>) -> bool,
) -> Result<Option<T>> {
    let of = T::gvr();
    let of = client::Resource { gvr: &of, namespace: Some(namespace).filter(|ns| !ns.is_empty()) };
    let selector = format!("metadata.name={name}");
    let follow = async {
        let params = client::ListParams { field_selector: selector.clone(), ..Default::default() };
        let list = client.list_as::<T>(&of, &params).await.context("list")?;
        let there = list.items.into_iter().next();
        if wanted(there.as_ref()) {
            return Ok(there);
        }
        let params = WatchParams {
            field_selector: selector.clone(),
            resource_version: list.resource_version,
            ..Default::default()
        };
        let mut stream = client.watch::<T>(namespace, &params).await.context("watch")?;
        while let Some(event) = stream.next().await.context("watch")? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) if wanted(Some(&object)) => {
                    return Ok(Some(object));
                }
                WatchEvent::Deleted(_) if wanted(None) => return Ok(None),
                _ => {}
            }
        }
        bail!("the API server ended the watch")
    };
    match tokio::time::timeout(limit, follow).await {
        Ok(result) => result.with_context(|| format!("wait for {} {name}", T::KIND)),
        Err(_) => bail!("{} {name} is not as wanted after {} s", T::KIND, limit.as_secs()),
    }
}
