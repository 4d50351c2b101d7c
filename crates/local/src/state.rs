//! What runs: one file per cluster, written before the first process starts and removed last.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout::{Layout, runtime_dir};
use crate::process::Pid;
use crate::spec::Addresses;

/// Slots there are: as many clusters can run side by side.
const SLOTS: u8 = 16;

/// A running (or half-started, or half-ended) cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Name.
    pub name: String,
    /// Its folder.
    pub data: PathBuf,
    /// Its addresses.
    pub addresses: Addresses,
    /// What the network changed on the host, to be restored.
    pub changed: cni::hostnet::Changed,
    /// The control-plane process.
    pub control_plane: Option<Pid>,
    /// The nodes.
    pub nodes: Vec<NodeState>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Name.
    pub name: String,
    /// Number, from 1.
    pub number: u8,
    /// Its holder.
    pub holder: Option<Pid>,
}

fn io(operation: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { operation, path, source }
}

impl ClusterState {
    /// Reads a cluster's state; `None` when it does not run.
    ///
    /// # Errors
    /// The file is unreadable or malformed.
    pub fn load(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.state_file();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Parse { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io("read", &path)(error)),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, layout: &Layout) -> Result<()> {
        let path = layout.state_file();
        std::fs::create_dir_all(runtime_dir()).map_err(io("create", &runtime_dir()))?;
        let bytes = serde_json::to_vec_pretty(self).map_err(|source| Error::Parse { path: path.clone(), source })?;
        sys::fs::write_atomic(&path, &bytes).map_err(|e| Error::Other(format!("write {}: {e}", path.display())))
    }

    /// Forgets it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(layout: &Layout) -> Result<()> {
        let path = layout.state_file();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

/// The running clusters of this machine, by name.
///
/// # Errors
/// A state file is unreadable or malformed.
pub fn list() -> Result<Vec<ClusterState>> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(runtime_dir()) else { return Ok(found) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".json") else { continue };
        let layout = Layout::new(name, PathBuf::new());
        found.extend(ClusterState::load(&layout)?);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn slot_file(slot: u8) -> PathBuf {
    runtime_dir().join(format!("slot-{slot}"))
}

/// Takes a free slot, `wish` if it is free: a cluster that comes back should keep its addresses.
///
/// # Errors
/// All are taken, or the folder cannot be written.
pub fn claim_slot(name: &str, wish: Option<u8>) -> Result<u8> {
    std::fs::create_dir_all(runtime_dir()).map_err(io("create", &runtime_dir()))?;
    for slot in wish.into_iter().chain(0..SLOTS) {
        let path = slot_file(slot);
        if std::fs::read_to_string(&path).is_ok_and(|owner| owner == name) {
            return Ok(slot);
        }
        match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                std::io::Write::write_all(&mut file, name.as_bytes()).map_err(io("write", &path))?;
                return Ok(slot);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io("create", &path)(error)),
        }
    }
    Err(Error::Other(format!("{SLOTS} clusters run already; end one with `corten down --name NAME`")))
}

/// Frees a slot.
pub fn release_slot(slot: u8) {
    // Absent is free; anything else shows at the next claim.
    let _ = std::fs::remove_file(slot_file(slot));
}
