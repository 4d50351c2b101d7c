//! Many of what clusters usually have few of: CRDs, admission policies, namespaces.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use client::Client;
use futures::future::try_join_all;
use http::Method;
use serde_json::{Value, json};

use crate::stats::Samples;
use crate::subject::Subject;
use crate::table::Measured;
use crate::{Options, load, process};

/// What [`crds`] measures.
pub(crate) const CRDS: [&str; 2] = ["crds", "crds-memory"];
/// What [`policies`] measures.
pub(crate) const POLICIES: [&str; 1] = ["policies"];
/// What [`namespaces`] measures.
pub(crate) const NAMESPACES: [&str; 4] =
    ["namespaces-p99", "namespaces-create", "namespaces-list", "namespaces-delete"];

const CRD_COUNT: usize = 100;
const POLICY_COUNT: usize = 100;
/// Creates that the cost of policies is taken from, with and without them.
const POLICY_CREATES: usize = 2000;
const OBJECTS_PER_NAMESPACE: usize = 20;
const LIMIT: Duration = Duration::from_secs(900);
const ASK_AGAIN: Duration = Duration::from_millis(20);

async fn post(client: &Client, path: &str, object: &Value) -> Result<()> {
    let payload = Bytes::from(object.to_string());
    client.call(Method::POST, path, Some("application/json"), payload).await.context("create an object")?;
    Ok(())
}

async fn get(client: &Client, path: &str) -> Result<Bytes> {
    client.call(Method::GET, path, None, Bytes::new()).await.with_context(|| format!("get {path}"))
}

/// Asks until an answer satisfies.
async fn until(client: &Client, path: &str, good: impl Fn(&Value) -> bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        if let Ok(answer) = get(client, path).await
            && good(&serde_json::from_slice(&answer).context("read an answer")?)
        {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            bail!("{path} did not get as wanted in {LIMIT:?}");
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

fn crd(number: usize) -> Value {
    let (plural, kind) = (format!("things{number}"), format!("Thing{number}"));
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "minimum": 0, "default": 1},
        "color": {"type": "string", "enum": ["red", "green"]},
        "parts": {"type": "array", "maxItems": 10, "items": {"type": "object", "properties": {
            "name": {"type": "string"}, "weight": {"type": "number"},
        }}},
    }, "x-kubernetes-validations": [{"rule": "self.size < 100", "message": "too large"}]});
    let status = json!({"type": "object", "properties": {"ready": {"type": "boolean"}}});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": status}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.bench.example.com")},
        "spec": {
            "group": "bench.example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

/// 100 definitions: until all are served, discovered and in OpenAPI, and what they hold in memory.
pub(crate) async fn crds(subject: &Subject, measured: &mut Measured) -> Result<()> {
    let client = subject.client()?;
    // What the first question costs is not theirs.
    get(&client, "/openapi/v2").await?;
    let before = process::memory(&subject.holders).own;
    let begun = Instant::now();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = (0..CRD_COUNT).map(|number| {
        let (client, object) = (client.clone(), crd(number));
        async move { post(&client, path, &object).await }
    });
    try_join_all(made).await?;
    let listed = |list: &Value| {
        let resources = list["resources"].as_array().into_iter().flatten();
        resources.filter(|r| r["name"].as_str().is_some_and(|name| !name.contains('/'))).count() == CRD_COUNT
    };
    until(&client, "/apis/bench.example.com/v1", listed).await?;
    let documented = |document: &Value| {
        let paths = document["paths"].as_object().into_iter().flatten();
        let one = |path: &str| path.contains("/namespaces/") && path.ends_with("/{name}") && !path.contains("/watch/");
        paths.filter(|(path, _)| one(path)).count() == CRD_COUNT
    };
    until(&client, "/openapi/v3/apis/bench.example.com/v1", documented).await?;
    measured.set("crds", begun.elapsed().as_secs_f64());
    measured.set("crds-memory", process::memory(&subject.holders).own - before);
    Ok(())
}

/// Seconds of one create, over all of them.
async fn creates(clients: &[Client], first: usize) -> Result<f64> {
    let next = AtomicUsize::new(first);
    let begun = Instant::now();
    let path = format!("/api/v1/namespaces/{}/pods", load::NAMESPACE);
    let workers = clients.iter().map(|client| async {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= first + POLICY_CREATES {
                return anyhow::Ok(());
            }
            let pod = load::pod(number);
            client.call(Method::POST, &path, Some("application/json"), pod).await.context("create a pod")?;
        }
    });
    try_join_all(workers).await?;
    Ok(begun.elapsed().as_secs_f64() / POLICY_CREATES as f64)
}

async fn policy(client: &Client, number: usize, expression: &str) -> Result<()> {
    let group = "/apis/admissionregistration.k8s.io/v1";
    let name = format!("bench-{number}");
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
    let policy = json!({"metadata": {"name": name}, "spec": {
        "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": expression}],
    }});
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    post(client, &format!("{group}/validatingadmissionpolicies"), &policy).await?;
    post(client, &format!("{group}/validatingadmissionpolicybindings"), &binding).await
}

/// What 100 policies that look at every pod add to a create, in percent.
pub(crate) async fn policies(subject: &Subject, options: &Options, measured: &mut Measured) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..options.connections {
        clients.push(subject.client()?);
    }
    let first = clients.first().context("--connections must be at least 1")?.clone();
    load::prepare(&first).await?;
    creates(&clients, 0).await?;
    let without = creates(&clients, POLICY_CREATES).await?;
    for number in 0..POLICY_COUNT {
        let expression = format!("object.spec.containers.all(c, c.image != 'example.com/forbidden:{number}')");
        policy(&first, number, &expression).await?;
    }
    policy(&first, POLICY_COUNT, "object.metadata.name != 'refused'").await?;
    // The last one refuses: then all are in force.
    let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", load::NAMESPACE);
    let mut refused: Value = serde_json::from_slice(&load::pod(0)).context("read a pod")?;
    refused["metadata"]["name"] = "refused".into();
    let begun = Instant::now();
    while post(&first, &path, &refused).await.is_ok() {
        if begun.elapsed() > LIMIT {
            bail!("the policies do not come into force");
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
    let with = creates(&clients, 2 * POLICY_CREATES).await?;
    measured.set("policies", (with / without - 1.0) * 100.0);
    Ok(())
}

/// Another client's reads and writes, until told to stop; their milliseconds.
async fn bystander(client: &Client, done: &AtomicBool) -> Result<Samples> {
    let path = "/api/v1/namespaces/default/configmaps";
    let mut samples = Samples::default();
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("bystander-{number}");
        let sent = Instant::now();
        post(client, path, &json!({"metadata": {"name": name}, "data": {"a": "b"}})).await?;
        samples.add(sent.elapsed().as_secs_f64() * 1e3);
        let sent = Instant::now();
        get(client, &format!("{path}/{name}")).await?;
        samples.add(sent.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Ok(samples)
}

/// Many namespaces with objects: made, listed, deleted, and what others notice of it.
pub(crate) async fn namespaces(subject: &Subject, options: &Options, measured: &mut Measured) -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..options.connections {
        clients.push(subject.client()?);
    }
    let other = subject.client()?;
    let done = AtomicBool::new(false);
    let work = async {
        let result = all_namespaces(&clients, options.namespaces, measured).await;
        done.store(true, Ordering::Relaxed);
        result
    };
    let (samples, ()) = tokio::try_join!(bystander(&other, &done), work)?;
    measured.set_some("namespaces-p99", samples.quantile(0.99));
    Ok(())
}

async fn all_namespaces(clients: &[Client], count: usize, measured: &mut Measured) -> Result<()> {
    let first = clients.first().context("--connections must be at least 1")?;
    let begun = Instant::now();
    spread(clients, count, |client, number| async move {
        let name = format!("crowd-{number:04}");
        post(&client, "/api/v1/namespaces", &json!({"metadata": {"name": name, "labels": {"bench": "crowd"}}})).await?;
        for object in 0..OBJECTS_PER_NAMESPACE {
            let map = json!({"metadata": {"name": format!("map-{object}")}, "data": {"key": "value"}});
            post(&client, &format!("/api/v1/namespaces/{name}/configmaps"), &map).await?;
        }
        Ok(())
    })
    .await?;
    measured.set("namespaces-create", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    get(first, "/api/v1/namespaces").await?;
    get(first, "/api/v1/configmaps").await?;
    measured.set("namespaces-list", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    spread(clients, count, |client, number| async move {
        let path = format!("/api/v1/namespaces/crowd-{number:04}");
        client.call(Method::DELETE, &path, None, Bytes::new()).await.context("delete a namespace")?;
        Ok(())
    })
    .await?;
    let gone = |list: &Value| list["items"].as_array().is_none_or(Vec::is_empty);
    until(first, "/api/v1/namespaces?labelSelector=bench%3Dcrowd&limit=1", gone).await?;
    measured.set("namespaces-delete", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Does a piece of work per number, over all connections.
async fn spread<F: Future<Output = Result<()>>>(
    clients: &[Client],
    count: usize,
    work: impl Fn(Client, usize) -> F,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let workers = clients.iter().map(|client| async {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return anyhow::Ok(());
            }
            work(client.clone(), number).await?;
        }
    });
    try_join_all(workers).await.map(drop)
}
