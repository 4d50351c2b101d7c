//! The cluster that the suite runs against.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A fresh cluster of our own, ended when this is dropped, or one that runs already.
pub(super) struct Cluster {
    kubeconfig: PathBuf,
    own: Option<Own>,
}

struct Own {
    binary: PathBuf,
    name: String,
    keep: bool,
}

impl Own {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(words).args(["--name", &self.name]).stdin(Stdio::null());
        command
    }

    fn run(&self, mut command: Command, what: &str) -> Result<()> {
        let status = command.status().with_context(|| format!("start {}", self.binary.display()))?;
        if !status.success() {
            bail!("{what}: {status}");
        }
        Ok(())
    }
}

impl Cluster {
    /// A cluster that runs already; it is left as it is.
    pub(super) fn running(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig, own: None }
    }

    /// Starts a cluster of two nodes under a name of its own.
    pub(super) fn start(binary: &Path, out: &Path, keep: bool) -> Result<Self> {
        let binary = binary.canonicalize().with_context(|| format!("find {}", binary.display()))?;
        let own = Own { binary, name: format!("conformance-{}", std::process::id()), keep };
        let kubeconfig = out.join("kubeconfig");
        eprintln!("starting cluster {}", own.name);
        let mut up = own.command(&["up", "--detach", "--nodes", "2"]);
        up.arg("--kubeconfig").arg(&kubeconfig);
        // From here on dropping it ends the cluster, also one that is half started.
        let cluster = Self { kubeconfig, own: Some(own) };
        if let Some(own) = &cluster.own {
            own.run(up, "the cluster did not start")?;
        }
        Ok(cluster)
    }

    /// Imports the archive with the suite's images.
    pub(super) fn import(&mut self, archive: &Path) -> Result<()> {
        let Some(own) = &self.own else { return Ok(()) };
        let mut import = own.command(&["image", "import"]);
        import.arg(archive);
        own.run(import, "the images were not imported")
    }

    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Ends the cluster and removes its data, unless it is to be kept or is not ours.
    pub(super) fn end(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        let Some(own) = self.own.take() else { return Ok(()) };
        if own.keep {
            eprintln!("cluster {} runs on; end it with: corten down --purge --name {}", own.name, own.name);
            return Ok(());
        }
        own.run(own.command(&["down", "--purge"]), "the cluster did not end")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            eprintln!("{error:#}");
        }
    }
}
