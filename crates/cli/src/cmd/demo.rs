//! The demonstration of `corten up --demo`: a Deployment, a Service, and answers of its pods.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use api::Kind;
use api::k8s::apps::v1::Deployment;
use api::k8s::core::v1::{Pod, Service};
use client::{Client, PatchKind, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::{Error, Result};
use crate::progress::Progress;

const NAMESPACE: &str = "default";
const LIMIT: Duration = Duration::from_secs(60);
/// Answers asked for at most until three pods have answered.
const MAX_ANSWERS: usize = 100;

fn image() -> String {
    format!("corten.local/corten:{}", env!("CARGO_PKG_VERSION"))
}

async fn apply<T: Kind>(client: &Client, name: &str, object: Value) -> Result<T> {
    let kind = PatchKind::Apply { manager: "corten-demo".into(), force: true };
    let applied = client.patch::<T>(NAMESPACE, name, &kind, &object).await;
    applied.map_err(|source| Error::Api { doing: "make the demonstration", source: Box::new(source) })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{
                    "name": "web", "image": image(), "imagePullPolicy": "IfNotPresent",
                    "args": ["demo", "--listen", "0.0.0.0:8080"],
                    "ports": [{"containerPort": 8080}],
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

fn asking_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asker"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "asker", "image": image(), "imagePullPolicy": "IfNotPresent",
            "args": ["demo", "--ask", "http://web.default.svc.cluster.local/"],
        }]},
    })
}

/// Follows an object until it is as wanted.
async fn wait_for<T: Kind>(client: &Client, name: &str, wanted: impl Fn(&T) -> bool) -> Result<T> {
    let failed = |source| Error::Api { doing: "watch the demonstration", source: Box::new(source) };
    let params = WatchParams { field_selector: format!("metadata.name={name}"), ..WatchParams::default() };
    let follow = async {
        let mut stream = client.watch::<T>(NAMESPACE, &params).await.map_err(failed)?;
        while let Some(event) = stream.next().await.map_err(failed)? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) if wanted(&object) => return Ok(object),
                _ => {}
            }
        }
        Err(Error::Other("the API server ended the watch".into()))
    };
    let waited = tokio::time::timeout(LIMIT, follow).await;
    waited.map_err(|_| Error::Other(format!("{} {name} did not get ready in {} s", T::KIND, LIMIT.as_secs())))?
}

/// One HTTP answer over a connection of its own, so that each may come from another pod.
async fn ask(address: SocketAddr) -> Result<String> {
    let failed = |source| Error::File { doing: "ask", path: address.to_string(), source };
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n").await.map_err(failed)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map_err(failed)?;
        Ok(text.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned())
    };
    tokio::time::timeout(Duration::from_secs(5), exchange)
        .await
        .map_err(|_| Error::Other(format!("no answer from {address}")))?
}

/// Runs the demonstration on a ready cluster.
///
/// # Errors
/// A part of it did not come about.
pub(crate) async fn run(client: &Client, progress: &Progress) -> Result<()> {
    apply::<Deployment>(client, "web", deployment()).await?;
    let service = apply::<Service>(client, "web", service()).await?;
    progress.done("created Deployment web (3 replicas) and Service web");
    wait_for::<Deployment>(client, "web", |d| {
        d.status.as_ref().and_then(|s| s.available_replicas) == Some(3)
            && d.status.as_ref().and_then(|s| s.observed_generation) == d.metadata.generation
    })
    .await?;
    progress.done("3 of 3 pods are available");
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).unwrap_or_default();
    let ip = ip.parse().map_err(|_| Error::Other(format!("the Service has no address: {ip:?}")))?;
    let mut seen = BTreeSet::new();
    for _ in 0..MAX_ANSWERS {
        let answer = ask(SocketAddr::new(ip, 80)).await?;
        if seen.insert(answer.clone()) {
            progress.done(format!("http://{ip}/ answers: {answer}"));
        }
        if seen.len() == 3 {
            break;
        }
    }
    from_a_pod(client, progress).await
}

async fn from_a_pod(client: &Client, progress: &Progress) -> Result<()> {
    let options = client::DeleteOptions { grace_period_seconds: Some(0), ..client::DeleteOptions::default() };
    match client.delete::<Pod>(NAMESPACE, "asker", &options).await {
        Err(source) if !source.is_not_found() => {
            return Err(Error::Api { doing: "remove the old asker", source: Box::new(source) });
        }
        _ => {}
    }
    apply::<Pod>(client, "asker", asking_pod()).await?;
    let ended = |p: &Pod| matches!(p.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
    wait_for::<Pod>(client, "asker", ended).await?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/asker/log");
    let log = client.call(http::Method::GET, &path, None, Default::default()).await;
    let log = log.map_err(|source| Error::Api { doing: "read the asker's log", source: Box::new(source) })?;
    for line in String::from_utf8_lossy(&log).lines() {
        progress.done(format!("from a pod: {line}"));
    }
    Ok(())
}
