//! The API under load: creates, lists, reads, and what 20,000 pods cost in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::k8s::core::v1::ServiceAccount;
use bytes::Bytes;
use client::Client;
use futures::future::try_join_all;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;

use crate::subject::Subject;
use crate::table::Measured;
use crate::{Options, process, stats::Samples};

/// What [`measure`] measures. All need the pods, so any of them makes them.
pub(crate) const NAMES: [&str; 5] = ["create", "list-json", "list-protobuf", "get", "memory"];

pub(crate) const NAMESPACE: &str = "bench";
/// How long GETs are counted.
const GET_TIME: Duration = Duration::from_secs(5);
/// Lists that the figure is the median of.
const LISTS: usize = 5;

pub(crate) fn pod(number: usize) -> Bytes {
    // A scheduler that does not exist: the pods stay what they are.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number:05}"),
            "labels": {"app": "bench", "number": format!("n{}", number % 100)},
            "annotations": {"example.com/note": "a pod as controllers make them"},
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "main", "image": "example.com/app:1.0",
                "args": ["--listen=:8080", "--verbose"],
                "env": [{"name": "MODE", "value": "bench"}, {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "ports": [{"containerPort": 8080}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
            }],
        },
    });
    Bytes::from(pod.to_string())
}

pub(crate) async fn prepare(client: &Client) -> Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).to_string();
    let path = "/api/v1/namespaces";
    client.call(Method::POST, path, Some("application/json"), namespace.into()).await.context("make the namespace")?;
    let there = |account: Option<&ServiceAccount>| account.is_some();
    e2e::wait_for::<ServiceAccount>(client, NAMESPACE, "default", Duration::from_secs(30), there).await.map(drop)
}

/// Measures through the API of a fresh control plane.
pub(crate) async fn measure(subject: &Subject, options: &Options, measured: &mut Measured) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..options.connections {
        clients.push(subject.client()?);
    }
    let first = clients.first().context("--connections must be at least 1")?.clone();
    prepare(&first).await?;
    create(&clients, options.pods, measured).await?;
    let held = process::memory(&subject.holders);
    measured.set("memory", held.own);
    measured.set("memory-store-map", held.store_map);
    if options.wants(&["list-json"]) {
        let (seconds, megabytes) = list(&first, "application/json").await?;
        measured.set_some("list-json", seconds);
        measured.set("list-json-size", megabytes);
    }
    if options.wants(&["list-protobuf"]) {
        let (seconds, megabytes) = list(&first, "application/vnd.kubernetes.protobuf").await?;
        measured.set_some("list-protobuf", seconds);
        measured.set("list-protobuf-size", megabytes);
    }
    if options.wants(&["get"]) {
        get(&clients, options.pods, measured).await?;
    }
    Ok(())
}

async fn create(clients: &[Client], count: usize, measured: &mut Measured) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let workers = clients.iter().map(|client| {
        let (client, next) = (client.clone(), next.clone());
        tokio::spawn(async move {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
            let mut samples = Samples::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(samples);
                }
                let sent = Instant::now();
                client
                    .call(Method::POST, &path, Some("application/json"), pod(number))
                    .await
                    .context("create a pod")?;
                samples.add(sent.elapsed().as_secs_f64() * 1e3);
            }
        })
    });
    let all = join(workers).await?;
    measured.set("create", count as f64 / begun.elapsed().as_secs_f64());
    measured.set_some("create-p99", all.quantile(0.99));
    Ok(())
}

async fn join(workers: impl Iterator<Item = tokio::task::JoinHandle<Result<Samples>>>) -> Result<Samples> {
    let mut all = Samples::default();
    for samples in try_join_all(workers).await.context("a worker ended early")? {
        all.merge(samples?);
    }
    Ok(all)
}

/// Median seconds of a whole list, read and thrown away, and its size in MB.
async fn list(client: &Client, accept: &str) -> Result<(Option<f64>, f64)> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let (mut samples, mut size) = (Samples::default(), 0);
    for _ in 0..LISTS {
        let sent = Instant::now();
        let answer = client.raw(Method::GET, &path, None, accept, Bytes::new()).await.context("list")?;
        if !answer.status().is_success() {
            bail!("list: {}", answer.status());
        }
        let mut body = answer.into_body();
        size = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| anyhow::anyhow!("read a list: {e}"))?;
            size += frame.data_ref().map_or(0, Bytes::len);
        }
        samples.add(sent.elapsed().as_secs_f64());
    }
    Ok((samples.median(), size as f64 / 1e6))
}

async fn get(clients: &[Client], count: usize, measured: &mut Measured) -> Result<()> {
    let begun = Instant::now();
    let done = Arc::new(AtomicUsize::new(0));
    let workers = clients.iter().enumerate().map(|(worker, client)| {
        let (client, done) = (client.clone(), done.clone());
        tokio::spawn(async move {
            let mut samples = Samples::default();
            let mut number = worker * 37;
            while begun.elapsed() < GET_TIME {
                number = (number + 101) % count.max(1);
                let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/pod-{number:05}");
                let sent = Instant::now();
                client.call(Method::GET, &path, None, Bytes::new()).await.context("get a pod")?;
                samples.add(sent.elapsed().as_secs_f64() * 1e3);
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(samples)
        })
    });
    let all = join(workers).await?;
    measured.set("get", done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64());
    measured.set_some("get-p99", all.quantile(0.99));
    Ok(())
}
