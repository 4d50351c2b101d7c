//! Where a cluster keeps its things.

use std::path::{Path, PathBuf};

/// The folders of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The cluster's name.
    pub name: String,
    /// What survives `down`: store, keys, images.
    pub data: PathBuf,
}

/// The folder of a cluster when none is given.
pub fn default_data_dir(name: &str) -> PathBuf {
    Path::new("/var/lib/corten").join(name)
}

/// Where all clusters of this machine keep what does not survive a reboot.
pub fn runtime_dir() -> PathBuf {
    PathBuf::from("/run/corten")
}

impl Layout {
    /// The layout of a cluster.
    pub fn new(name: &str, data: PathBuf) -> Self {
        Self { name: name.to_owned(), data }
    }

    /// The layout of a `kubelet` that runs alone, outside of any cluster of this machine.
    pub fn lone_node() -> Self {
        Self::new("", PathBuf::from("/var/lib/corten-node"))
    }

    /// State of the running cluster.
    pub fn state_file(&self) -> PathBuf {
        runtime_dir().join(format!("{}.json", self.name))
    }

    /// Keys and certificates.
    pub fn pki(&self) -> PathBuf {
        self.data.join("pki")
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    /// Log of the control plane.
    pub fn log(&self, process: &str) -> PathBuf {
        self.data.join("log").join(format!("{process}.log"))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    /// The specification of the control-plane process.
    pub fn control_plane_spec(&self) -> PathBuf {
        self.data.join("control-plane.json")
    }

    /// A node's folder.
    pub fn node(&self, node: &str) -> PathBuf {
        self.data.join("nodes").join(node)
    }

    /// The specification of a node's processes.
    pub fn node_spec(&self, node: &str) -> PathBuf {
        self.node(node).join("node.json")
    }

    /// How registries are reached: mirrors, plain HTTP, authorities (JSON, by host). The image store reads it for each
    /// pull.
    pub fn registries(&self) -> PathBuf {
        self.images().join("registries.json")
    }

    /// Image content, shared by the nodes of the cluster.
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }
}
