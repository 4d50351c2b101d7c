//! scheduler_perf's SchedulingBasic, from outside: 5,000 nodes that are objects only, 1,000 pods on them, and the time until
//! 10,000 more that are created at once are all bound. Creating them is part of the time, as it is upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use client::Client;
use futures::future::try_join_all;
use http::Method;
use serde_json::{Value, json};

use crate::subject::Subject;
use crate::table::Measured;
use crate::{Options, load, note, process};

/// What [`measure`] measures.
pub(crate) const NAMES: [&str; 1] = ["scheduling"];

const NODES: usize = 5000;
const FIRST_PODS: usize = 1000;
const PODS: usize = 10_000;
/// How long all pods may take.
const LIMIT: Duration = Duration::from_secs(300);
const ASK_AGAIN: Duration = Duration::from_millis(50);

fn node(number: usize) -> Value {
    let name = format!("hollow-{number:04}");
    let resources = json!({"cpu": "4", "memory": "32Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {
            "capacity": resources, "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "Hollow", "message": "an object only"}],
        },
    })
}

fn pod(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number:05}"), "labels": {"app": "bench"}},
        "spec": {
            // New nodes are tainted until a controller has seen that they are ready.
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
            "containers": [{
                "name": "pause", "image": "registry.k8s.io/pause:3.10",
                "ports": [{"containerPort": 80}],
                "resources": {
                    "requests": {"cpu": "100m", "memory": "500Mi"}, "limits": {"cpu": "100m", "memory": "500Mi"},
                },
            }],
        },
    })
}

/// Creates many objects over all connections.
async fn create(clients: &[Client], path: &str, first: usize, count: usize, object: fn(usize) -> Value) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(first));
    let workers = clients.iter().map(|client| {
        let (client, next, path) = (client.clone(), next.clone(), path.to_owned());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= first + count {
                    return anyhow::Ok(());
                }
                let payload = Bytes::from(object(number).to_string());
                client
                    .call(Method::POST, &path, Some("application/json"), payload)
                    .await
                    .context("create an object")?;
            }
        })
    });
    for done in try_join_all(workers).await.context("a worker ended early")? {
        done?;
    }
    Ok(())
}

/// Nodes that run pods for real are none of the measurement.
async fn cordon_others(client: &Client) -> Result<()> {
    let answer = client.call(Method::GET, "/api/v1/nodes", None, Bytes::new()).await.context("list nodes")?;
    let nodes: Value = serde_json::from_slice(&answer).context("read the nodes")?;
    for name in nodes["items"].as_array().into_iter().flatten().filter_map(|n| n["metadata"]["name"].as_str()) {
        let path = format!("/api/v1/nodes/{name}");
        let patch = Bytes::from(json!({"spec": {"unschedulable": true}}).to_string());
        client
            .call(Method::PATCH, &path, Some("application/merge-patch+json"), patch)
            .await
            .context("cordon a node")?;
    }
    Ok(())
}

/// Waits until no pod is without a node.
async fn all_bound(client: &Client) -> Result<()> {
    let path = format!("/api/v1/namespaces/{}/pods?fieldSelector=spec.nodeName%3D&limit=1", load::NAMESPACE);
    let begun = Instant::now();
    loop {
        let answer = client.call(Method::GET, &path, None, Bytes::new()).await.context("list pods")?;
        let pods: Value = serde_json::from_slice(&answer).context("read the pods")?;
        if pods["items"].as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            bail!("not all pods were bound in {LIMIT:?}; one is {}", pods["items"][0]["status"]);
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Measures on a fresh control plane.
pub(crate) async fn measure(subject: &Subject, options: &Options, measured: &mut Measured) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..options.connections {
        clients.push(subject.client()?);
    }
    let first = clients.first().context("--connections must be at least 1")?.clone();
    load::prepare(&first).await?;
    cordon_others(&first).await?;
    let begun = Instant::now();
    create(&clients, "/api/v1/nodes", 0, NODES, node).await?;
    note(format!("{NODES} nodes in {:.1} s", begun.elapsed().as_secs_f64()));
    let path = format!("/api/v1/namespaces/{}/pods", load::NAMESPACE);
    create(&clients, &path, 0, FIRST_PODS, pod).await?;
    all_bound(&first).await?;
    let begun = Instant::now();
    create(&clients, &path, FIRST_PODS, PODS, pod).await?;
    let created = begun.elapsed();
    all_bound(&first).await?;
    let all = begun.elapsed();
    note(format!("{PODS} pods created in {:.2} s, bound in {:.2} s", created.as_secs_f64(), all.as_secs_f64()));
    measured.set("scheduling", PODS as f64 / all.as_secs_f64());
    measured.set("scheduling-memory", process::memory(&subject.holders).own);
    Ok(())
}
