//! The user: makes workloads, changes and deletes them, at random.

use std::time::Duration;

use bytes::Bytes;
use client::Client;
use http::Method;
use rt::rand::below;
use serde_json::{Value, json};

use crate::note;
use crate::objects;

/// Where workloads are made. `quota` has a quota, `gone` is deleted on the way in most seeds.
pub const NAMESPACES: [&str; 4] = ["one", "two", "quota", "gone"];
/// Pods that the quota allows.
pub const QUOTA: i64 = 8;
/// Tries of a call before the user gives up.
const TRIES: u32 = 120;
const PAUSE: Duration = Duration::from_millis(500);

/// Something that was made.
#[derive(Debug, Clone)]
struct Made {
    kind: &'static str,
    namespace: &'static str,
    name: String,
    /// Slots that it may take.
    slots: u64,
    version: u64,
}

impl Made {
    fn path(&self) -> String {
        format!("{}/{}", collection(self.kind, self.namespace), self.name)
    }
}

/// The path of a kind's collection.
pub fn collection(kind: &str, namespace: &str) -> String {
    let (group, plural) = match kind {
        "Deployment" => ("apis/apps/v1", "deployments"),
        "ReplicaSet" => ("apis/apps/v1", "replicasets"),
        "StatefulSet" => ("apis/apps/v1", "statefulsets"),
        "DaemonSet" => ("apis/apps/v1", "daemonsets"),
        "Job" => ("apis/batch/v1", "jobs"),
        "CronJob" => ("apis/batch/v1", "cronjobs"),
        "PodDisruptionBudget" => ("apis/policy/v1", "poddisruptionbudgets"),
        "Service" => ("api/v1", "services"),
        "ResourceQuota" => ("api/v1", "resourcequotas"),
        _ => ("api/v1", "pods"),
    };
    format!("/{group}/namespaces/{namespace}/{plural}")
}

/// See the module.
pub struct User {
    client: Client,
    made: Vec<Made>,
    /// Slots for pods that are still to be had.
    room: u64,
    count: u64,
    nodes: u64,
}

impl User {
    /// A user who may take so many pods' slots on so many nodes.
    pub fn new(client: Client, room: u64, nodes: u64) -> Self {
        Self { client, made: Vec::new(), room, count: 0, nodes }
    }

    /// One call, made again until the server has answered it.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
        let media = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        for _ in 0..TRIES {
            let payload = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
            match self.client.call(method.clone(), path, Some(media), payload).await {
                Ok(answer) => return serde_json::from_slice(&answer).ok(),
                Err(error) if error.status().is_some_and(|s| s.code < 500 && s.code != 429) => {
                    note!("user: {method} {path}: {error}");
                    return None;
                }
                Err(_) => rt::time::sleep(PAUSE).await,
            }
        }
        None
    }

    /// The namespaces and the quota.
    pub async fn prepare(&mut self) {
        for name in NAMESPACES {
            self.call(Method::POST, "/api/v1/namespaces", &objects::namespace(name)).await;
        }
        let path = collection("ResourceQuota", "quota");
        self.call(Method::POST, &path, &objects::quota(QUOTA)).await;
    }

    /// Does one thing.
    pub async fn act(&mut self) {
        match below(20) {
            0..9 => self.make().await,
            9..12 => self.scale().await,
            12..15 => self.change().await,
            15 => self.pause().await,
            16 => self.delete().await,
            17 => self.delete_pod().await,
            18 => self.evict().await,
            _ if below(4) == 0 => self.delete_namespace().await,
            _ => self.expose().await,
        }
    }

    async fn make(&mut self) {
        self.count += 1;
        let namespace = NAMESPACES[below(4) as usize];
        let name = format!("w{}", self.count);
        let (kind, slots, object) = match below(12) {
            0..4 => {
                let replicas = 1 + below(5);
                ("Deployment", replicas + 2, objects::deployment(&name, replicas))
            }
            4..6 => {
                let replicas = 1 + below(4);
                ("StatefulSet", replicas, objects::stateful_set(&name, replicas))
            }
            6 => ("DaemonSet", self.nodes + 1, objects::daemon_set(&name)),
            7..10 => {
                let parallelism = 1 + below(3);
                ("Job", parallelism, objects::job(&name, parallelism))
            }
            10 => ("CronJob", 2, objects::cron_job(&name)),
            _ => {
                let replicas = 1 + below(3);
                ("ReplicaSet", replicas, objects::replica_set(&name, replicas))
            }
        };
        if slots > self.room {
            return;
        }
        let made = Made { kind, namespace, name, slots, version: 0 };
        note!("user: make {kind} {namespace}/{}", made.name);
        if self.call(Method::POST, &collection(kind, namespace), &object).await.is_some() {
            self.room -= slots;
            self.made.push(made);
        }
    }

    fn pick(&self, kinds: &[&str]) -> Option<usize> {
        let fit: Vec<usize> = (0..self.made.len()).filter(|i| kinds.contains(&self.made[*i].kind)).collect();
        fit.get(below(fit.len() as u64) as usize).copied()
    }

    async fn scale(&mut self) {
        let Some(at) = self.pick(&["Deployment", "StatefulSet", "ReplicaSet"]) else { return };
        // Up to what it was made with, so that all fits in the end.
        let most = if self.made[at].kind == "Deployment" { self.made[at].slots - 2 } else { self.made[at].slots };
        let patch = json!({"spec": {"replicas": below(most + 1)}});
        note!("user: scale {} {patch}", self.made[at].name);
        self.call(Method::PATCH, &self.made[at].path(), &patch).await;
    }

    /// Rolls out another template, or an earlier one again.
    async fn change(&mut self) {
        let Some(at) = self.pick(&["Deployment", "StatefulSet", "DaemonSet"]) else { return };
        let made = &mut self.made[at];
        made.version = if below(3) == 0 { made.version.saturating_sub(1) } else { made.version + 1 };
        let annotations = json!({"version": made.version.to_string()});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        let path = made.path();
        note!("user: roll out {} version {}", made.name, made.version);
        self.call(Method::PATCH, &path, &patch).await;
    }

    async fn pause(&mut self) {
        let Some(at) = self.pick(&["Deployment", "Job"]) else { return };
        let on = below(2) == 0;
        let field = if self.made[at].kind == "Job" { "suspend" } else { "paused" };
        note!("user: {field} {on} {}", self.made[at].name);
        self.call(Method::PATCH, &self.made[at].path(), &json!({"spec": {field: on}})).await;
    }

    async fn delete(&mut self) {
        let kinds = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicaSet"];
        let Some(at) = self.pick(&kinds) else { return };
        let made = self.made.remove(at);
        let policy = ["Background", "Foreground", "Orphan"][below(3) as usize];
        note!("user: delete {} {} {policy}", made.kind, made.name);
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        self.call(Method::DELETE, &made.path(), &options).await;
        if policy != "Orphan" {
            self.room += made.slots;
        }
    }

    async fn some_pod(&self) -> Option<(String, String)> {
        let list = self.call(Method::GET, "/api/v1/pods", &Value::Null).await?;
        let pods = list["items"].as_array()?;
        let pod = pods.get(below(pods.len() as u64) as usize)?;
        let text = |field: &str| pod["metadata"][field].as_str().map(str::to_owned);
        Some((text("namespace")?, text("name")?))
    }

    async fn delete_pod(&self) {
        let Some((namespace, name)) = self.some_pod().await else { return };
        note!("user: delete pod {namespace}/{name}");
        let grace = if below(4) == 0 { json!({"gracePeriodSeconds": 0}) } else { json!({}) };
        self.call(Method::DELETE, &format!("{}/{name}", collection("Pod", &namespace)), &grace).await;
    }

    async fn evict(&self) {
        let Some((namespace, name)) = self.some_pod().await else { return };
        note!("user: evict pod {namespace}/{name}");
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        // 429 is a budget's answer, and no reason to try for long.
        let path = format!("{}/{name}/eviction", collection("Pod", &namespace));
        let payload = Bytes::from(eviction.to_string());
        if let Err(error) = self.client.call(Method::POST, &path, Some("application/json"), payload).await {
            note!("user: eviction of {name}: {error}");
        }
    }

    /// A Service and a disruption budget for the pods of some workload.
    async fn expose(&mut self) {
        let Some(at) = self.pick(&["Deployment", "StatefulSet", "ReplicaSet"]) else { return };
        let (namespace, name) = (self.made[at].namespace, self.made[at].name.clone());
        note!("user: expose {name}");
        self.call(Method::POST, &collection("Service", namespace), &objects::service(&name)).await;
        self.call(Method::POST, &collection("PodDisruptionBudget", namespace), &objects::budget(&name)).await;
    }

    async fn delete_namespace(&mut self) {
        note!("user: delete namespace gone");
        self.made.retain(|made| made.namespace != "gone");
        self.call(Method::DELETE, "/api/v1/namespaces/gone", &Value::Null).await;
    }

    /// Stops what would go on forever, so that the cluster can come to rest.
    pub async fn rest(&mut self) {
        for namespace in NAMESPACES {
            let path = collection("CronJob", namespace);
            let Some(list) = self.call(Method::GET, &path, &Value::Null).await else { continue };
            for name in list["items"].as_array().into_iter().flatten().filter_map(|c| c["metadata"]["name"].as_str()) {
                self.call(Method::PATCH, &format!("{path}/{name}"), &json!({"spec": {"suspend": true}})).await;
            }
        }
        let Some(nodes) = self.call(Method::GET, "/api/v1/nodes", &Value::Null).await else { return };
        for name in nodes["items"].as_array().into_iter().flatten().filter_map(|n| n["metadata"]["name"].as_str()) {
            let path = format!("/api/v1/nodes/{name}");
            self.call(Method::PATCH, &path, &json!({"spec": {"unschedulable": null}})).await;
        }
    }
}
