//! What is measured through the API.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use client::{Client, HttpTransport, Kubeconfig, TlsIdentity};
use e2e::Cluster;
use http::Method;

/// An API server, and the processes that hold its objects.
pub(crate) struct Subject {
    pub(crate) kubeconfig: PathBuf,
    /// Store and API server.
    pub(crate) holders: Vec<u32>,
    /// Where the scheduler's metrics are; none when the API server has them.
    pub(crate) scheduler: Option<String>,
}

impl Subject {
    pub(crate) fn of_cluster(cluster: &Cluster) -> Result<Self> {
        let pid = cluster.state()?.control_plane.context("the control plane does not run")?.pid;
        Ok(Self { kubeconfig: cluster.kubeconfig(), holders: vec![pid], scheduler: None })
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::load(&self.kubeconfig).context("load the kubeconfig")?;
        kubeconfig.client("bench").context("use the kubeconfig")
    }

    /// The scheduler's metrics.
    pub(crate) async fn metrics(&self) -> Result<String> {
        let client = match &self.scheduler {
            None => self.client()?,
            Some(server) => {
                let any = TlsIdentity { insecure: true, ..TlsIdentity::default() };
                let transport = HttpTransport::new(server, &any, None).context("reach the scheduler")?;
                Client::new(Arc::new(transport), "bench")
            }
        };
        let text = client.call(Method::GET, "/metrics", None, Bytes::new()).await.context("read metrics")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
