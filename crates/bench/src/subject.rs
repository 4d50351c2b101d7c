//! What is measured through the API.

use std::path::PathBuf;

use anyhow::{Context, Result};
use client::{Client, Kubeconfig};
use e2e::Cluster;

/// An API server, and the processes that hold its objects.
pub(crate) struct Subject {
    pub(crate) kubeconfig: PathBuf,
    /// Store and API server.
    pub(crate) holders: Vec<u32>,
}

impl Subject {
    pub(crate) fn of_cluster(cluster: &Cluster) -> Result<Self> {
        let pid = cluster.state()?.control_plane.context("the control plane does not run")?.pid;
        Ok(Self { kubeconfig: cluster.kubeconfig(), holders: vec![pid] })
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::load(&self.kubeconfig).context("load the kubeconfig")?;
        kubeconfig.client("bench").context("use the kubeconfig")
    }
}
