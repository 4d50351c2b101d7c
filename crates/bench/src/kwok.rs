//! kwok's three steps with `corten hollow-node`: nodes Ready, pods Running, pods gone; and the large cluster of the issue.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use client::Client;
use http::Method;
use serde_json::{Value, json};

use crate::scheduler::{cordon_others, create};
use crate::stats::Samples;
use crate::subject::Subject;
use crate::table::Measured;
use crate::{Options, note, process};

/// What [`measure`] measures.
pub(crate) const NAMES: [&str; 3] = ["kwok-nodes", "kwok-pods", "kwok-delete"];
/// What [`measure_large`] measures.
pub(crate) const LARGE: [&str; 5] =
    ["large-pods", "large-memory", "large-api-p50", "large-api-p99", "large-scale-1000"];

const NAMESPACE: &str = "kwok";
const NODES: usize = 5000;
const PODS: usize = 10_000;
const LARGE_DEPLOYMENTS: usize = 100;
const LARGE_REPLICAS: usize = 1500;
const LIMIT: Duration = Duration::from_secs(1800);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The nodes' process; it ends with this.
struct Hollow(Child);

impl Drop for Hollow {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hollow(binary: &Path, subject: &Subject, nodes: usize) -> Result<Hollow> {
    let log = std::fs::File::create(std::env::temp_dir().join(format!("bench-hollow-{}.log", std::process::id())))
        .context("create a log")?;
    let child = Command::new(binary)
        .args(["hollow-node", "--pod-start-delay", "0s", "--concurrency", "32", "--count", &nodes.to_string()])
        .arg("--kubeconfig")
        .arg(&subject.kubeconfig)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .context("start corten hollow-node")?;
    Ok(Hollow(child))
}

async fn get(client: &Client, path: &str) -> Result<Value> {
    let answer = client.call(Method::GET, path, None, Bytes::new()).await.with_context(|| format!("GET {path}"))?;
    serde_json::from_slice(&answer).context("read an answer")
}

/// How many objects a list has, without reading them all.
async fn count(client: &Client, path: &str, selector: &str) -> Result<usize> {
    let list = get(client, &format!("{path}?limit=1{selector}")).await?;
    let first = list["items"].as_array().map_or(0, Vec::len);
    Ok(first + list["metadata"]["remainingItemCount"].as_u64().map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)))
}

async fn until<F: AsyncFnMut() -> Result<bool>>(what: &str, mut done: F) -> Result<f64> {
    let begun = Instant::now();
    while !done().await? {
        if begun.elapsed() > LIMIT {
            bail!("{what}: not in {LIMIT:?}");
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Whether so many hollow nodes are Ready; all nodes are read only when there are enough.
async fn nodes_ready(client: &Client, nodes: usize) -> Result<bool> {
    let path = "/api/v1/nodes";
    if count(client, path, "").await? < nodes {
        return Ok(false);
    }
    let list = get(client, path).await?;
    let is_ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let hollow = |node: &&Value| node["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("hollow-"));
    let ready = list["items"].as_array().into_iter().flatten().filter(hollow).filter(is_ready).count();
    Ok(ready >= nodes)
}

async fn begin(binary: &Path, subject: &Subject, nodes: usize) -> Result<(Client, Hollow, f64)> {
    let client = subject.client()?;
    cordon_others(&client).await?;
    let namespace = Bytes::from(json!({"metadata": {"name": NAMESPACE}}).to_string());
    client
        .call(Method::POST, "/api/v1/namespaces", Some("application/json"), namespace)
        .await
        .context("make the namespace")?;
    let hollow = hollow(binary, subject, nodes)?;
    let seconds = until("nodes Ready", async || nodes_ready(&client, nodes).await).await?;
    note(format!("{nodes} nodes Ready in {seconds:.1} s"));
    Ok((client, hollow, seconds))
}

fn pod(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("pod-{number:06}")},
        "spec": {
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
            "containers": [{"name": "main", "image": "example.com/app:1.0"}],
        },
    })
}

/// kwok's three steps on a fresh control plane.
pub(crate) async fn measure(
    binary: &Path,
    subject: &Subject,
    options: &Options,
    measured: &mut Measured,
) -> Result<()> {
    let scaled = |count: usize| ((count as f64 * options.scale) as usize).max(1);
    let (nodes, pods) = (scaled(NODES), scaled(PODS));
    let (client, _hollow, seconds) = begin(binary, subject, nodes).await?;
    measured.set("kwok-nodes", seconds);
    let mut clients = Vec::new();
    for _ in 0..options.connections {
        clients.push(subject.client()?);
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let begun = Instant::now();
    create(&clients, &path, pods, Arc::new(pod)).await?;
    note(format!("{pods} pods created in {:.1} s", begun.elapsed().as_secs_f64()));
    let running = "&fieldSelector=status.phase%3DRunning";
    until("pods Running", async || Ok(running_pods(&client, &path, running).await? >= pods)).await?;
    let seconds = begun.elapsed().as_secs_f64();
    note(format!("{pods} pods Running in {seconds:.1} s"));
    measured.set("kwok-pods", seconds);
    let begun = Instant::now();
    client.call(Method::DELETE, &path, None, Bytes::new()).await.context("delete all pods")?;
    until("pods gone", async || Ok(count(&client, &path, "").await? == 0)).await?;
    measured.set("kwok-delete", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Upstream does not say how many remain of a list with a selector; then those that are not yet so are looked for.
async fn running_pods(client: &Client, path: &str, running: &str) -> Result<usize> {
    let pending = count(client, path, &running.replace("%3D", "!%3D")).await?;
    if pending > 0 { Ok(0) } else { count(client, path, "").await }
}

fn deployment(name: &str, replicas: usize) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "example.com/app:1.0"}]},
            },
        },
    })
}

async fn available(client: &Client, name: &str, wanted: usize) -> Result<bool> {
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}");
    Ok(get(client, &path).await?["status"]["availableReplicas"].as_u64().unwrap_or(0) >= wanted as u64)
}

/// 5,000 nodes and 150,000 pods of Deployments on a fresh control plane.
pub(crate) async fn measure_large(
    binary: &Path,
    subject: &Subject,
    options: &Options,
    measured: &mut Measured,
) -> Result<()> {
    let scaled = |count: usize| ((count as f64 * options.scale) as usize).max(1);
    let (client, _hollow, _) = begin(binary, subject, scaled(NODES)).await?;
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    let (all, replicas) = (scaled(LARGE_DEPLOYMENTS), LARGE_REPLICAS);
    let begun = Instant::now();
    for number in 0..all {
        let name = format!("app-{number:03}");
        let payload = Bytes::from(deployment(&name, replicas).to_string());
        client.call(Method::POST, &path, Some("application/json"), payload).await.context("create a Deployment")?;
    }
    let mut samples = Samples::default();
    for number in 0..all {
        let name = format!("app-{number:03}");
        until("Deployments available", async || {
            let asked = Instant::now();
            let done = available(&client, &name, replicas).await;
            samples.add(asked.elapsed().as_secs_f64() * 1e3);
            done
        })
        .await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    note(format!("{} pods available in {seconds:.0} s", all * replicas));
    measured.set("large-pods", (all * replicas) as f64 / seconds);
    measured.set("large-memory", process::memory(&subject.holders).own);
    measured.set_some("large-api-p50", samples.median());
    measured.set_some("large-api-p99", samples.quantile(0.99));
    let begun = Instant::now();
    let patch = Bytes::from(json!({"spec": {"replicas": replicas + 1000}}).to_string());
    let of_first = format!("{path}/app-000");
    client.call(Method::PATCH, &of_first, Some("application/merge-patch+json"), patch).await.context("scale")?;
    until("a Deployment scaled", async || available(&client, "app-000", replicas + 1000).await).await?;
    measured.set("large-scale-1000", begun.elapsed().as_secs_f64());
    Ok(())
}
