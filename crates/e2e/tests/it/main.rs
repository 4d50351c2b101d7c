//! A whole cluster, from the binary: what a person does in the first minutes, and what must not be left afterwards.
//!
//! Needs root and `CORTEN_BIN`; `cargo xtask test` builds the binary and names it.

mod first_minute;
mod images;
mod workshop;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::Kind;
use api::k8s::apps::v1::Deployment;
use api::k8s::core::v1::{Node, Pod, Service};
use client::{Client, DeleteOptions, ListParams, PatchKind, Propagation};
use e2e::{Cluster, ask, machine, wait_for};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
                    "name": "web", "image": e2e::image(), "imagePullPolicy": "IfNotPresent",
                    "args": ["demo", "--listen", "0.0.0.0:8080"],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                }]},
            },
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

fn asker() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asker"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "asker", "image": e2e::image(), "imagePullPolicy": "IfNotPresent",
            "args": ["demo", "--ask", "http://web.default.svc.cluster.local/"],
        }]},
    })
}

async fn apply<T: Kind>(client: &Client, name: &str, object: Value) -> Result<T> {
    let kind = PatchKind::Apply { manager: "e2e".into(), force: true };
    client.patch::<T>("default", name, &kind, &object).await.with_context(|| format!("apply {} {name}", T::KIND))
}

fn available(deployment: Option<&Deployment>) -> bool {
    let status = deployment.and_then(|d| d.status.as_ref());
    status.and_then(|s| s.available_replicas) == Some(3)
}

async fn log(client: &Client, pod: &str) -> Result<String> {
    let path = format!("/api/v1/namespaces/default/pods/{pod}/log");
    let bytes = client.call(http::Method::GET, &path, None, Default::default()).await.context("read a log")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Starts the Deployment, its Service and a pod that asks by name; gives the Service's address.
async fn start_web(client: &Client) -> Result<SocketAddr> {
    apply::<Deployment>(client, "web", deployment()).await?;
    let service: Service = apply(client, "web", service()).await?;
    wait_for::<Deployment>(client, "default", "web", LIMIT, available).await?;
    let ip = service.spec.and_then(|s| s.cluster_ip).context("the Service has no address")?;
    let address = SocketAddr::new(ip.parse().context("the Service's address")?, 80);
    ask::until_different(address, 3).await.context("from the host")?;
    apply::<Pod>(client, "asker", asker()).await?;
    let ended = |pod: Option<&Pod>| {
        let phase = pod.and_then(|p| p.status.as_ref()?.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    wait_for::<Pod>(client, "default", "asker", LIMIT, ended).await?;
    let text = log(client, "asker").await?;
    ensure!(text.matches("hello from web-").count() == 3, "the pod that asks by name saw: {text}");
    Ok(address)
}

fn use_kubectl(cluster: &Cluster, pod: &str) -> Result<()> {
    let Some(kubectl) = e2e::kubectl() else {
        eprintln!("exec is not tested: no kubectl on PATH");
        return Ok(());
    };
    let table = cluster.kubectl(&kubectl, &["get", "pods", "-l", "app=web"])?;
    ensure!(table.matches("Running").count() == 3, "get: {table}");
    let said = cluster.kubectl(&kubectl, &["exec", pod, "--", "/corten", "--version"])?;
    ensure!(said.contains(env!("CARGO_PKG_VERSION")), "exec: {said}");
    let text = cluster.kubectl(&kubectl, &["logs", "asker"])?;
    ensure!(text.contains("hello from web-"), "logs: {text}");
    Ok(())
}

fn kill(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("a process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).context("kill")
}

/// Processes of the pods' containers.
fn servers(cluster: &Cluster) -> Vec<u32> {
    let all = machine::processes_of(cluster.name(), &cluster.data_dir());
    all.into_iter().filter(|p| p.command.contains("demo --listen")).map(|p| p.pid).collect()
}

/// Kills the agent and the control plane with SIGKILL: pods and their Service must not notice.
async fn kill_and_return(cluster: &Cluster, address: SocketAddr) -> Result<()> {
    let before = servers(cluster);
    ensure!(before.len() == 3, "3 servers should run, not {before:?}");
    let state = cluster.state()?;
    let all = machine::processes_of(cluster.name(), &cluster.data_dir());
    let agent = all.iter().find(|p| p.command.contains("node-agent")).context("the agent does not run")?;
    kill(agent.pid)?;
    kill(state.control_plane.context("the control plane does not run")?.pid)?;
    ask::until_different(address, 3).await.context("after the processes were killed")?;
    ensure!(servers(cluster) == before, "servers ended with the processes that look after them");
    cluster.up_again().context("complete the cluster again")?;
    let client = cluster.client()?;
    let node = state.nodes.first().context("there is no node")?.name.clone();
    let ready = |node: Option<&Node>| {
        let conditions = node.and_then(|n| n.status.as_ref()?.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
    };
    wait_for::<Node>(&client, "", &node, LIMIT, ready).await?;
    wait_for::<Deployment>(&client, "default", "web", LIMIT, available).await?;
    ensure!(servers(cluster) == before, "servers were started again");
    let pods = client.list::<Pod>("default", &web_pods()).await.context("list pods")?;
    let restarts = |pod: &Pod| -> i32 {
        let statuses = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
        statuses.map(|s| s.restart_count).sum()
    };
    ensure!(pods.items.iter().map(restarts).sum::<i32>() == 0, "restarts were counted");
    Ok(())
}

fn web_pods() -> ListParams {
    ListParams { label_selector: "app=web".into(), ..ListParams::default() }
}

async fn delete_web(cluster: &Cluster, client: &Client) -> Result<()> {
    let pods = client.list::<Pod>("default", &web_pods()).await.context("list pods")?;
    let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    client.delete::<Deployment>("default", "web", &options).await.context("delete the Deployment")?;
    for pod in pods.items {
        wait_for::<Pod>(client, "default", pod.name(), LIMIT, |pod| pod.is_none()).await?;
    }
    ensure!(servers(cluster).is_empty(), "servers run without their pods");
    Ok(())
}

/// Another cluster comes and goes: this one must not notice.
async fn beside_another(binary: &Path, cluster: &Cluster, address: SocketAddr) -> Result<()> {
    let other = Cluster::up(binary, &format!("{}-b", cluster.name()), 2).context("start a second cluster")?;
    let state = other.state()?;
    ask::until_different(address, 3).await.context("beside another cluster")?;
    other.down().context("end the second cluster")?;
    ask::until_different(address, 3).await.context("after another cluster has ended")?;
    let left = machine::traces(&state)?;
    ensure!(left.is_empty(), "the second cluster left behind:\n{}", left.join("\n"));
    Ok(())
}

async fn first_minutes(binary: &Path, cluster: &Cluster) -> Result<()> {
    let client = cluster.client()?;
    let address = start_web(&client).await?;
    let pods = client.list::<Pod>("default", &web_pods()).await.context("list pods")?;
    use_kubectl(cluster, pods.items.first().context("there are no pods")?.name())?;
    beside_another(binary, cluster, address).await?;
    kill_and_return(cluster, address).await?;
    delete_web(cluster, &cluster.client()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_works_survives_kills_and_leaves_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: starting a cluster needs root");
        return;
    }
    let Some(binary) = e2e::binary() else {
        eprintln!("skipped: CORTEN_BIN is not set; `cargo xtask test` builds the binary and sets it");
        return;
    };
    let name = format!("e2e-{}", std::process::id());
    let cluster = Cluster::up(&binary, &name, 1).expect("start the cluster");
    let state = cluster.state().expect("the cluster's state");
    // Shows that looking finds something while the cluster runs.
    assert!(machine::traces(&state).expect("look at the machine").len() > 5);
    let worked = first_minutes(&binary, &cluster).await;
    if worked.is_err() {
        show_logs(&cluster);
        show_pods(&cluster).await;
    }
    let ended = cluster.down();
    worked.expect("use the cluster");
    ended.expect("end the cluster");
    let left = machine::traces(&state).expect("look at the machine");
    assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
}

/// What is known of the pods, which go with the cluster.
async fn show_pods(cluster: &Cluster) {
    let Ok(client) = cluster.client() else { return };
    let Ok(pods) = client.list::<Pod>("", &ListParams::default()).await else { return };
    for pod in pods.items {
        let status = serde_json::to_string(&pod.status).unwrap_or_default();
        eprintln!("== pod {}: {status}", pod.key());
        eprintln!("{}", log(&client, pod.name()).await.unwrap_or_default());
    }
}

/// The ends of the cluster's logs, which go with it.
fn show_logs(cluster: &Cluster) {
    let Ok(entries) = std::fs::read_dir(cluster.data_dir().join("log")) else { return };
    for path in entries.flatten().map(|e| e.path()) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("== {}\n{}", path.display(), lines[lines.len().saturating_sub(40)..].join("\n"));
    }
}
