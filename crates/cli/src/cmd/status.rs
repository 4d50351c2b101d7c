//! `corten status`.

use api::Kind;
use api::k8s::core::v1::{Node, Pod};
use clap::Args;
use client::{Kubeconfig, ListParams};
use local::{ClusterState, Layout, NodeState};
use serde::Serialize;

use crate::error::{Error, Result, chain};

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
    /// Why the API server could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Serialize)]
struct NodeLine {
    name: String,
    process: &'static str,
    /// Absent where the API server could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
}

fn alive(pid: Option<local::Pid>) -> &'static str {
    if pid.is_some_and(|pid| pid.is_alive()) { "running" } else { "stopped" }
}

/// Nodes and the number of pods, by the API server's word.
async fn ask(layout: &Layout) -> Result<(Vec<Node>, usize)> {
    let failed = |source| Error::Api { doing: "ask the API server", source: Box::new(source) };
    let client = Kubeconfig::load(&layout.kubeconfig())?.client("corten-status")?;
    let nodes = client.list::<Node>("", &ListParams::default()).await.map_err(failed)?.items;
    let pods = client.list::<Pod>("", &ListParams::default()).await.map_err(failed)?.items.len();
    Ok((nodes, pods))
}

fn is_ready(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|n| n.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

async fn look(state: &ClusterState) -> Cluster {
    let layout = Layout::new(&state.name, state.data.clone());
    let control_plane = alive(state.control_plane);
    let asked = if control_plane == "running" { Some(ask(&layout).await) } else { None };
    let (known, problem) = match asked {
        Some(Ok(known)) => (Some(known), None),
        Some(Err(error)) => (None, Some(chain(&error))),
        None => (None, None),
    };
    let line = |node: &NodeState| {
        let of_name = |nodes: &Vec<Node>| is_ready(nodes.iter().find(|n| n.name() == node.name));
        let ready = known.as_ref().map(|(nodes, _)| of_name(nodes));
        NodeLine { name: node.name.clone(), process: alive(node.holder), ready }
    };
    Cluster {
        name: state.name.clone(),
        api_server: state.addresses.api_url(),
        kubeconfig: layout.kubeconfig().display().to_string(),
        control_plane,
        nodes: state.nodes.iter().map(line).collect(),
        pods: known.as_ref().map(|(_, pods)| *pods),
        problem,
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
                let ready = match node.ready {
                    Some(true) => ", Ready",
                    Some(false) => ", not Ready",
                    None => "",
                };
                println!("  node {}: {}{ready}", node.name, node.process);
            }
            if let Some(pods) = cluster.pods {
                println!("  pods: {pods}");
            }
            if let Some(problem) = cluster.problem {
                println!("  nodes and pods are not known: {problem}");
            }
        }
        Ok(())
    }
}
