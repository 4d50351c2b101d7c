//! `corten down`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use local::{ClusterState, Layout};

use crate::error::{Error, Result};
use crate::progress::Progress;

/// How long a process may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// End a cluster and leave the machine as it was.
#[derive(Debug, Args)]
pub struct Down {
    /// Name of the cluster.
    #[arg(long, default_value = "default")]
    name: String,
    /// Remove its data too: store, keys, images.
    #[arg(long)]
    purge: bool,
    /// Folder of a cluster that does not run, for --purge. Default: /var/lib/corten/NAME.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// ` --name NAME`, unless it is the default.
pub(crate) fn name_flag(name: &str) -> String {
    if name == "default" { String::new() } else { format!(" --name {name}") }
}

impl Down {
    /// Runs the command. A cluster that does not run is no failure.
    ///
    /// # Errors
    /// Something could not be ended or removed.
    pub fn run(self) -> Result<()> {
        let progress = Progress::start();
        let data = self.data_dir.clone().unwrap_or_else(|| local::default_data_dir(&self.name));
        let mut layout = Layout::new(&self.name, data);
        match ClusterState::load(&layout)? {
            Some(state) => {
                crate::need_root("corten down", "it ends processes and removes namespaces, interfaces and cgroups")?;
                layout.data.clone_from(&state.data);
                end(&layout, &state)?;
                progress.done(format!("cluster {} ended", self.name));
            }
            None => progress.done(format!("cluster {} does not run", self.name)),
        }
        if self.purge {
            match std::fs::remove_dir_all(&layout.data) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::File { doing: "remove", path: layout.data.display().to_string(), source });
                }
                _ => progress.done(format!("removed {}", layout.data.display())),
            }
        }
        Ok(())
    }
}

/// Ends everything that a state names; tries all before it gives the first failure.
pub(crate) fn end(layout: &Layout, state: &ClusterState) -> Result<()> {
    let mut failures = Vec::new();
    let mut note = |result: Result<(), local::Error>| {
        if let Err(error) = result {
            failures.push(error);
        }
    };
    // Nodes first, so that they do not report the control plane's end. The end of a node's first process ends all in it.
    for node in &state.nodes {
        if let Some(holder) = node.holder {
            note(holder.end(SIGKILL, PATIENCE));
        }
    }
    if let Some(pid) = state.control_plane {
        note(pid.end(SIGTERM, PATIENCE));
    }
    note(local::remove_cgroups(&state.name));
    note(local::remove(state));
    if let Some(error) = failures.into_iter().next() {
        return Err(error.into());
    }
    ClusterState::remove(layout)?;
    local::release_slot(state.addresses.slot);
    Ok(())
}
