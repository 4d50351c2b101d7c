//! scheduler_perf's cases, from outside: nodes that are objects only, first pods on them, and the time until the measured
//! pods, which are created at once, are all bound. Creating them is part of the time, as it is upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use client::Client;
use futures::future::try_join_all;
use http::Method;
use serde_json::{Value, json};

use crate::cases::{CASES, Case, Churn, huge, named, preempting};
use crate::histogram::Histogram;
use crate::subject::Subject;
use crate::table::Measured;
use crate::{Options, note, process};

const NAMESPACES: [&str; 3] = ["sched-0", "sched-1", "churn"];
/// How long all pods may take.
const LIMIT: Duration = Duration::from_secs(600);
const ASK_AGAIN: Duration = Duration::from_millis(50);
const ATTEMPTS: &str = "scheduler_scheduling_attempt_duration_seconds";

/// The cases that are to be measured: the first one, and those asked for by name.
pub(crate) fn wanted(options: &Options) -> Vec<Case> {
    let named = |case: &&Case| match options.only.is_empty() {
        true => case.name == CASES[0].name,
        false => options.only.iter().any(|only| only == "scheduler-cases" || only == case.name),
    };
    CASES.iter().filter(named).map(|case| case.scaled(options.scale)).collect()
}

/// Creates many objects over all connections.
pub(crate) async fn create(
    clients: &[Client],
    path: &str,
    count: usize,
    object: Arc<dyn Fn(usize) -> Value + Send + Sync>,
) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let workers = clients.iter().map(|client| {
        let (client, next, path, object) = (client.clone(), next.clone(), path.to_owned(), object.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                post(&client, &path, &object(number)).await?;
            }
        })
    });
    for done in try_join_all(workers).await.context("a worker ended early")? {
        done?;
    }
    Ok(())
}

async fn post(client: &Client, path: &str, object: &Value) -> Result<()> {
    let payload = Bytes::from(object.to_string());
    client.call(Method::POST, path, Some("application/json"), payload).await.context("create an object")?;
    Ok(())
}

/// Nodes that run pods for real are none of the measurement.
pub(crate) async fn cordon_others(client: &Client) -> Result<()> {
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
async fn all_bound(client: &Client, namespace: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}/pods?fieldSelector=spec.nodeName%3D&limit=1");
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

/// Waits until every node takes pods: the controllers have then done with the new nodes, and do not share the machine with
/// what is measured. scheduler_perf has no controllers.
async fn all_schedulable(client: &Client) -> Result<()> {
    let begun = Instant::now();
    loop {
        let answer = client.call(Method::GET, "/api/v1/nodes", None, Bytes::new()).await.context("list nodes")?;
        let nodes: Value = serde_json::from_slice(&answer).context("read the nodes")?;
        let tainted = |node: &&Value| {
            let taints = node["spec"]["taints"].as_array();
            taints.into_iter().flatten().any(|taint| taint["key"] == "node.kubernetes.io/not-ready")
        };
        let waiting = nodes["items"].as_array().into_iter().flatten().filter(tainted).count();
        if waiting == 0 {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            bail!("{waiting} nodes were not made schedulable in {LIMIT:?}");
        }
        tokio::time::sleep(ASK_AGAIN * 10).await;
    }
}

async fn prepare(client: &Client) -> Result<()> {
    for name in NAMESPACES {
        post(client, "/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
    }
    let class = json!({"metadata": {"name": "bench-high"}, "value": 10});
    post(client, "/apis/scheduling.k8s.io/v1/priorityclasses", &class).await?;
    for name in NAMESPACES {
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        let asking = async {
            while client.call(Method::GET, &path, None, Bytes::new()).await.is_err() {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asking).await.context("a namespace has no service account")?;
    }
    Ok(())
}

/// What goes on beside the measured pods, until it is dropped.
async fn churn(client: Client, kind: Churn) {
    let pods = "/api/v1/namespaces/churn/pods";
    for number in 0.. {
        let done = match kind {
            Churn::Preempting => post(&client, pods, &named(preempting, &format!("pod-{number}"))).await,
            Churn::Unschedulable => post(&client, pods, &named(huge, &format!("pod-{number}"))).await,
            Churn::Mixed => mixed(&client, number).await,
        };
        if let Err(error) = done {
            note(format!("churn: {error:#}"));
        }
        let pause = if kind == Churn::Mixed { 1000 } else { 200 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

async fn mixed(client: &Client, number: usize) -> Result<()> {
    let name = format!("churn-{number}");
    let node = json!({"metadata": {"name": name}, "status": {"capacity": {"pods": "0"}}});
    let service = json!({
        "metadata": {"name": name},
        "spec": {"selector": {"app": "foo"}, "ports": [{"port": 8080, "targetPort": 8080}]},
    });
    let all = [
        ("/api/v1/nodes", node),
        ("/api/v1/namespaces/churn/pods", named(huge, &name)),
        ("/api/v1/namespaces/churn/services", service),
    ];
    for (path, object) in &all {
        post(client, path, object).await?;
    }
    for (path, _) in &all {
        let path = format!("{path}/{name}");
        client.call(Method::DELETE, &path, None, Bytes::new()).await.context("delete what churns")?;
    }
    Ok(())
}

/// Measures one case on a fresh control plane.
pub(crate) async fn measure(case: &Case, subject: &Subject, options: &Options, measured: &mut Measured) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..options.connections {
        clients.push(subject.client()?);
    }
    let first = clients.first().context("--connections must be at least 1")?.clone();
    prepare(&first).await?;
    cordon_others(&first).await?;
    let begun = Instant::now();
    let (nodes, zones, big_node) = (case.nodes, case.zones, case.big_node);
    let of_node = move |number| Case { nodes, zones, big_node, ..CASES[0].scaled(1.0) }.node(number);
    create(&clients, "/api/v1/nodes", case.all_nodes(), Arc::new(of_node)).await?;
    note(format!("{}: {} nodes in {:.1} s", case.name, case.all_nodes(), begun.elapsed().as_secs_f64()));
    all_schedulable(&first).await?;
    note(format!("{}: all schedulable after {:.1} s", case.name, begun.elapsed().as_secs_f64()));
    let form = case.first;
    let of_pod = Arc::new(move |number| named(form, &format!("first-{number:05}")));
    create(&clients, "/api/v1/namespaces/sched-0/pods", case.first_pods, of_pod).await?;
    all_bound(&first, "sched-0").await?;
    let before = subject.metrics().await.map(|text| Histogram::read(&text, ATTEMPTS));
    let churning = case.churn.map(|kind| tokio::spawn(churn(first.clone(), kind)));
    let begun = Instant::now();
    let form = case.pod;
    let of_pod = Arc::new(move |number| named(form, &format!("pod-{number:05}")));
    create(&clients, "/api/v1/namespaces/sched-1/pods", case.pods, of_pod).await?;
    let created = begun.elapsed();
    all_bound(&first, "sched-1").await?;
    let all = begun.elapsed();
    if let Some(churning) = churning {
        churning.abort();
    }
    let (created, all) = (created.as_secs_f64(), all.as_secs_f64());
    note(format!("{}: {} pods created in {created:.2} s, bound in {all:.2} s", case.name, case.pods));
    measured.set(case.name, case.pods as f64 / all);
    if let (Ok(before), Ok(text)) = (before, subject.metrics().await) {
        let attempts = Histogram::read(&text, ATTEMPTS).since(&before);
        measured.set_some(case.p50, attempts.quantile(0.5).map(|s| s * 1e3));
        measured.set_some(case.p99, attempts.quantile(0.99).map(|s| s * 1e3));
    }
    if case.name == CASES[0].name {
        measured.set("scheduling-memory", process::memory(&subject.holders).own);
    }
    Ok(())
}
