//! Pods on a node: how long until they run, are reached, are entered, and are gone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::Kind;
use api::k8s::apps::v1::Deployment;
use api::k8s::core::v1::{Pod, Service};
use client::{Client, DeleteOptions, ListParams, Propagation, WatchEvent, WatchParams, WatchStream};
use e2e::{Cluster, wait_for};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stats::Samples;
use crate::table::Measured;
use crate::{Options, attempt, note, process};

/// What [`measure`] measures.
pub(crate) const NAMES: [&str; 7] = ["pod", "burst", "deployment", "service", "exec", "delete", "idle-pod"];

const NAMESPACE: &str = "default";
const LIMIT: Duration = Duration::from_secs(120);
/// Pods one after the other; deletes as many.
const SINGLE_PODS: usize = 30;
const MANY: usize = 50;
const SERVICES: usize = 5;
const EXECS: usize = 10;

fn pod_spec() -> Value {
    json!({"containers": [{
        "name": "web", "image": e2e::image(), "imagePullPolicy": "IfNotPresent",
        "args": ["demo", "--listen", "0.0.0.0:8080"],
    }]})
}

fn pod(name: &str) -> Result<Pod> {
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": pod_spec(),
    });
    serde_json::from_value(object).context("form a pod")
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// Measures on a ready cluster of one node. What fails is noted, and the rest measured.
///
/// # Errors
/// There is no pod to reach or enter.
pub(crate) async fn measure(
    cluster: &Cluster,
    options: &Options,
    measured: &mut Measured,
    failed: &mut bool,
) -> Result<()> {
    let client = cluster.client()?;
    if options.wants(&["pod", "delete"]) {
        attempt("single pods", single_pods(&client, measured).await, failed);
    }
    if options.wants(&["burst", "idle-pod"]) {
        attempt("pods at once", burst(cluster, &client, measured).await, failed);
    }
    if options.wants(&["deployment"]) {
        attempt("Deployment", deployment(&client, measured).await, failed);
    }
    if options.wants(&["service", "exec"]) {
        client.create(&pod("target")?).await.context("create a pod")?;
        let running = |pod: Option<&Pod>| pod.is_some_and(|p| phase(p) == "Running");
        wait_for::<Pod>(&client, NAMESPACE, "target", LIMIT, running).await?;
    }
    if options.wants(&["service"]) {
        attempt("Services", services(&client, measured).await, failed);
    }
    if options.wants(&["exec"]) {
        attempt("exec", exec(cluster, measured), failed);
    }
    Ok(())
}

async fn watch(client: &Client) -> Result<WatchStream<Pod>> {
    let list = client.list::<Pod>(NAMESPACE, &ListParams::default()).await.context("list pods")?;
    let params = WatchParams { resource_version: list.resource_version, ..WatchParams::default() };
    client.watch::<Pod>(NAMESPACE, &params).await.context("watch pods")
}

/// Follows the watch until `done` says so; it is given each pod, and whether it is gone.
async fn follow(stream: &mut WatchStream<Pod>, mut done: impl FnMut(&Pod, bool) -> bool) -> Result<()> {
    let following = async {
        while let Some(event) = stream.next().await.context("watch pods")? {
            let ended = match &event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => done(pod, false),
                WatchEvent::Deleted(pod) => done(pod, true),
                WatchEvent::Bookmark { .. } => false,
            };
            if ended {
                return Ok(());
            }
        }
        bail!("the API server ended the watch")
    };
    tokio::time::timeout(LIMIT, following).await.context("pods are not as wanted in time")?
}

/// One pod after the other: created to Running, deleted to gone.
async fn single_pods(client: &Client, measured: &mut Measured) -> Result<()> {
    let mut stream = watch(client).await?;
    let (mut started, mut ended) = (Samples::default(), Samples::default());
    for number in 0..SINGLE_PODS {
        let name = format!("single-{number}");
        let begun = Instant::now();
        client.create(&pod(&name)?).await.context("create a pod")?;
        follow(&mut stream, |pod, _| pod.name() == name && phase(pod) == "Running").await?;
        started.add(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        client.delete::<Pod>(NAMESPACE, &name, &DeleteOptions::default()).await.context("delete a pod")?;
        follow(&mut stream, |pod, gone| gone && pod.name() == name).await?;
        ended.add(begun.elapsed().as_secs_f64());
    }
    measured.set_some("pod-p50", started.median());
    measured.set_some("pod-p99", started.quantile(0.99));
    measured.set_some("delete", ended.median());
    Ok(())
}

/// Many pods at once, and what they add to the node's memory.
async fn burst(cluster: &Cluster, client: &Client, measured: &mut Measured) -> Result<()> {
    let before = process::memory(&process::node_processes(cluster)?).own;
    let mut stream = watch(client).await?;
    let names: BTreeSet<String> = (0..MANY).map(|n| format!("burst-{n}")).collect();
    let pods: Vec<Pod> = names.iter().map(|name| pod(name)).collect::<Result<_>>()?;
    let begun = Instant::now();
    let creates = futures::future::try_join_all(pods.iter().map(|pod| client.create(pod)));
    let mut running = BTreeSet::new();
    let all_run = follow(&mut stream, |pod, _| {
        if names.contains(pod.name()) && phase(pod) == "Running" {
            running.insert(pod.name().to_owned());
        }
        running.len() == MANY
    });
    let (created, followed) = futures::future::join(creates, all_run).await;
    created.context("create pods")?;
    followed?;
    measured.set("burst", begun.elapsed().as_secs_f64());
    let pids = process::node_processes(cluster)?;
    let servers = e2e::machine::processes_of(cluster.name(), &cluster.data_dir());
    let servers: Vec<u32> =
        servers.into_iter().filter(|p| p.command.contains("demo --listen")).map(|p| p.pid).collect();
    let ours: Vec<u32> = pids.into_iter().filter(|pid| !servers.contains(pid)).collect();
    measured.set("idle-pod", (process::memory(&ours).own - before) / MANY as f64);
    for name in &names {
        client.delete::<Pod>(NAMESPACE, name, &DeleteOptions::default()).await.context("delete a pod")?;
    }
    let mut left = names.clone();
    follow(&mut stream, |pod, gone| {
        if gone {
            left.remove(pod.name());
        }
        left.is_empty()
    })
    .await
}

async fn deployment(client: &Client, measured: &mut Measured) -> Result<()> {
    let object: Deployment = serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "many", "namespace": NAMESPACE},
        "spec": {
            "replicas": MANY,
            "selector": {"matchLabels": {"app": "many"}},
            "template": {"metadata": {"labels": {"app": "many"}}, "spec": pod_spec()},
        },
    }))
    .context("form a Deployment")?;
    let begun = Instant::now();
    client.create(&object).await.context("create the Deployment")?;
    let available = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|d| d.status.as_ref());
        status.and_then(|s| s.available_replicas).and_then(|n| usize::try_from(n).ok()) == Some(MANY)
    };
    wait_for::<Deployment>(client, NAMESPACE, "many", LIMIT, available).await?;
    measured.set("deployment", begun.elapsed().as_secs_f64());
    let mut stream = watch(client).await?;
    let selector = ListParams { label_selector: "app=many".into(), ..ListParams::default() };
    let pods = client.list::<Pod>(NAMESPACE, &selector).await.context("list pods")?;
    let mut left: BTreeSet<String> = pods.items.iter().map(|p| p.name().to_owned()).collect();
    let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    client.delete::<Deployment>(NAMESPACE, "many", &options).await.context("delete the Deployment")?;
    follow(&mut stream, |pod, gone| {
        if gone {
            left.remove(pod.name());
        }
        left.is_empty()
    })
    .await
}

/// A new Service for a running pod: time until its ClusterIP answers.
async fn services(client: &Client, measured: &mut Measured) -> Result<()> {
    let mut samples = Samples::default();
    for number in 0..SERVICES {
        let name = format!("service-{number}");
        let object: Service = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"selector": {"app": "target"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .context("form a Service")?;
        let begun = Instant::now();
        let made = client.create(&object).await.context("create a Service")?;
        let ip = made.spec.and_then(|s| s.cluster_ip).context("the Service has no address")?;
        let address = SocketAddr::new(ip.parse().context("the Service's address")?, 80);
        tokio::time::timeout(LIMIT, until_answered(address))
            .await
            .with_context(|| format!("{address} does not answer"))?;
        samples.add(begun.elapsed().as_secs_f64());
        client.delete::<Service>(NAMESPACE, &name, &DeleteOptions::default()).await.context("delete a Service")?;
    }
    measured.set_some("service", samples.median());
    Ok(())
}

async fn until_answered(address: SocketAddr) {
    let ask = async || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n").await?;
        stream.read(&mut [0; 64]).await
    };
    loop {
        // Short, as a connection begun before the rules are there waits a second to be tried again.
        if let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_millis(10), ask()).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// `kubectl exec` of a tiny command, less what kubectl needs to say its own version.
fn exec(cluster: &Cluster, measured: &mut Measured) -> Result<()> {
    let Some(kubectl) = e2e::kubectl() else {
        note("exec is not measured: no kubectl on PATH");
        return Ok(());
    };
    let exec = median(cluster, &kubectl, &["exec", "target", "--", "/corten", "--version"])?;
    let own = median(cluster, &kubectl, &["version", "--client"])?;
    measured.set_some("exec", exec.zip(own).map(|(exec, own)| (exec - own) * 1e3));
    Ok(())
}

fn median(cluster: &Cluster, kubectl: &Path, arguments: &[&str]) -> Result<Option<f64>> {
    let mut samples = Samples::default();
    for _ in 0..EXECS {
        let begun = Instant::now();
        cluster.kubectl(kubectl, arguments)?;
        samples.add(begun.elapsed().as_secs_f64());
    }
    Ok(samples.median())
}
