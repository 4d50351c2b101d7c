//! `corten status`.

use api::k8s::core::v1::{Node, Pod};
use clap::Args;
use client::{Kubeconfig, ListParams};
use local::{ClusterState, Layout};
use serde::Serialize;

use crate::error::Result;

/// Show the clusters of this machine.
#[derive(Debug, Args)]
pub struct Status {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    name: String,
    api_server: String,
    kubeconfig: String,
    control_plane: &'static str,
    nodes: Vec<NodeLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<usize>,
}

#[derive(Serialize)]
struct NodeLine {
    name: String,
    process: &'static str,
    ready: bool,
}

fn alive(pid: Option<local::Pid>) -> &'static str {
    if pid.is_some_and(|pid| pid.is_alive()) { "running" } else { "stopped" }
}

async fn look(state: &ClusterState) -> Cluster {
    let layout = Layout::new(&state.name, state.data.clone());
    let client = Kubeconfig::load(&layout.kubeconfig()).and_then(|k| k.client("corten-status")).ok();
    let (mut nodes, mut pods) = (Vec::new(), None);
    if let Some(client) = client.filter(|_| alive(state.control_plane) == "running") {
        nodes = client.list::<Node>("", &ListParams::default()).await.map(|l| l.items).unwrap_or_default();
        pods = client.list::<Pod>("", &ListParams::default()).await.map(|l| l.items.len()).ok();
    }
    let ready = |name: &str| {
        let node = nodes.iter().find(|n| n.metadata.name.as_deref() == Some(name));
        let conditions = node.and_then(|n| n.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    Cluster {
        name: state.name.clone(),
        api_server: state.addresses.api_url(),
        kubeconfig: layout.kubeconfig().display().to_string(),
        control_plane: alive(state.control_plane),
        nodes: state
            .nodes
            .iter()
            .map(|n| NodeLine { name: n.name.clone(), process: alive(n.holder), ready: ready(&n.name) })
            .collect(),
        pods,
    }
}

impl Status {
    /// Runs the command.
    ///
    /// # Errors
    /// A state file is unreadable.
    pub async fn run(self) -> Result<()> {
        let mut clusters = Vec::new();
        for state in local::list()? {
            clusters.push(look(&state).await);
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&clusters).unwrap_or_default());
            return Ok(());
        }
        if clusters.is_empty() {
            println!("No clusters. Start one with: corten up");
        }
        for cluster in clusters {
            println!("cluster {}: control plane {} at {}", cluster.name, cluster.control_plane, cluster.api_server);
            println!("  kubeconfig: {}", cluster.kubeconfig);
            for node in &cluster.nodes {
                let ready = if node.ready { "Ready" } else { "not Ready" };
                println!("  node {}: {}, {ready}", node.name, node.process);
            }
            if let Some(pods) = cluster.pods {
                println!("  pods: {pods}");
            }
        }
        Ok(())
    }
}
