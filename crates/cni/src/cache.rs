//! The cache of attachments: what CHECK, DEL and GC need of an earlier ADD, in libcni's own files.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const KIND: &str = "cniCacheV1";

/// One attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// `cniCacheV1`.
    pub kind: String,
    /// The container's id.
    #[serde(default)]
    pub container_id: String,
    /// The configuration list at the time, in base64 as libcni writes it.
    #[serde(default)]
    pub config: String,
    /// Interface name in the container.
    #[serde(default)]
    pub if_name: String,
    /// The network's name.
    #[serde(default)]
    pub network_name: String,
    /// Namespace path.
    #[serde(default)]
    pub netns: String,
    /// `CNI_ARGS` as pairs.
    #[serde(default, rename = "cniArgs")]
    pub cni_args: Vec<(String, String)>,
    /// Values of capabilities.
    #[serde(default)]
    pub capability_args: Value,
    /// The last plugin's result.
    #[serde(default)]
    pub result: Value,
}

/// `<dir>/results`.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// A cache below `dir` (upstream's: `/var/lib/cni`).
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.join("results") }
    }

    fn path(&self, network: &str, id: &str, ifname: &str) -> PathBuf {
        self.dir.join(format!("{network}-{id}-{ifname}"))
    }

    /// Writes an attachment, whole or not at all.
    ///
    /// # Errors
    /// When the directory is not writable.
    pub fn put(&self, mut entry: Entry) -> Result<()> {
        entry.kind = KIND.to_owned();
        fs::create_dir_all(&self.dir).map_err(|e| Error::io(&self.dir, e))?;
        let path = self.path(&entry.network_name, &entry.container_id, &entry.if_name);
        let bytes = serde_json::to_vec(&entry).map_err(|e| Error::internal("encoding a cache entry", e))?;
        let partial = self.dir.join(format!(".{}-{}-{}", entry.network_name, entry.container_id, entry.if_name));
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&partial)
            .map_err(|e| Error::io(&partial, e))?;
        file.write_all(&bytes).map_err(|e| Error::io(&partial, e))?;
        fs::rename(&partial, &path).map_err(|e| Error::io(&path, e))
    }

    /// The attachment, `None` when there is none or the file is not ours to understand.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, network: &str, id: &str, ifname: &str) -> Result<Option<Entry>> {
        let path = self.path(network, id, ifname);
        match fs::read(&path) {
            Ok(bytes) => Ok(parse(&bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(&path, e)),
        }
    }

    /// Forgets an attachment; absent is fine.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self, network: &str, id: &str, ifname: &str) -> Result<()> {
        let path = self.path(network, id, ifname);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, e)),
            _ => Ok(()),
        }
    }

    /// All attachments of a network.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self, network: &str) -> Result<Vec<Entry>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(&self.dir, e)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::io(&self.dir, e))?.path();
            let partial = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
            if partial {
                continue;
            }
            // A file that vanished meanwhile belongs to a DEL that runs beside us.
            all.extend(fs::read(&path).ok().and_then(|bytes| parse(&bytes)).filter(|e| e.network_name == network));
        }
        Ok(all)
    }
}

fn parse(bytes: &[u8]) -> Option<Entry> {
    serde_json::from_slice::<Entry>(bytes).ok().filter(|e| e.kind == KIND)
}
