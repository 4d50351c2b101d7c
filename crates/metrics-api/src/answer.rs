//! Requests and answers.

use std::sync::Arc;

use client::{Client, Error, ListParams};
use http::{Method, Request, Response, StatusCode, header};
use meta::quantity::{Format, Quantity};
use meta::{GroupResource, Object, Status};
use rt::Shutdown;
use rt::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::samples::Usage;
use crate::scrape::Scraper;

/// The group.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";
const GROUP_VERSION: &str = "metrics.k8s.io/v1beta1";

/// The server of the group. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    scraper: Arc<Scraper>,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    namespace: &'a str,
    resource: &'a str,
    name: &'a str,
}

fn asked(path: &str) -> Option<Asked<'_>> {
    let rest = path.strip_prefix("/apis/metrics.k8s.io/v1beta1")?;
    let parts: Vec<&str> = rest.split('/').filter(|p| !p.is_empty()).collect();
    let (namespace, resource, name) = match parts[..] {
        [] => ("", "", ""),
        ["nodes"] => ("", "nodes", ""),
        ["nodes", name] => ("", "nodes", name),
        ["pods"] => ("", "pods", ""),
        ["namespaces", namespace, "pods"] => (namespace, "pods", ""),
        ["namespaces", namespace, "pods", name] => (namespace, "pods", name),
        _ => return None,
    };
    Some(Asked { namespace, resource, name })
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn parameter(query: &str, name: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).next().unwrap_or_default()
}

fn quantities(cpu: u64, memory: u64) -> Value {
    let cpu: Quantity = format!("{cpu}n").parse().unwrap_or_default();
    let memory = Quantity::from_units(i64::try_from(memory).unwrap_or(i64::MAX), Format::BinarySi);
    json!({"cpu": cpu.to_string(), "memory": memory.to_string()})
}

/// Go's form of a duration below an hour, in milliseconds.
fn duration(millis: i64) -> String {
    let (minutes, seconds) = (millis / 60_000, millis % 60_000);
    let fraction = if seconds % 1000 == 0 {
        (seconds / 1000).to_string()
    } else {
        let text = format!("{}.{:03}", seconds / 1000, seconds % 1000);
        text.trim_end_matches('0').to_owned()
    };
    if minutes == 0 { format!("{fraction}s") } else { format!("{minutes}m{fraction}s") }
}

/// An object of the API, and the usage that its row shows.
struct Shown {
    object: Value,
    total: Value,
    window: String,
}

fn object(kind: &str, of: &Object, list: &[(String, Usage)]) -> Option<Shown> {
    let newest = list.iter().map(|(_, usage)| usage).max_by_key(|usage| usage.time)?;
    let time = Timestamp::from_millisecond(newest.time).unwrap_or_default();
    let (mut cpu, mut memory) = (0, 0);
    for (_, usage) in list {
        cpu += usage.nano_cores;
        memory += usage.memory;
    }
    let window = duration(newest.window);
    let mut metadata = json!({"name": of.name(), "creationTimestamp": meta::time::format_seconds(rt::time::now())});
    if !of.namespace().is_empty() {
        metadata["namespace"] = of.namespace().into();
    }
    if let Some(labels) = of.get(&["metadata", "labels"]) {
        metadata["labels"] = labels.clone();
    }
    let mut object = json!({
        "kind": kind, "apiVersion": GROUP_VERSION, "metadata": metadata,
        "timestamp": meta::time::format_seconds(time), "window": window,
    });
    let total = quantities(cpu, memory);
    if kind == "NodeMetrics" {
        object["usage"] = total.clone();
    } else {
        let containers =
            list.iter().map(|(name, u)| json!({"name": name, "usage": quantities(u.nano_cores, u.memory)}));
        object["containers"] = containers.collect();
    }
    Some(Shown { object, total, window })
}

fn table(shown: &[Shown], include: &str) -> Value {
    let column = |name: &str, format: &str, about: &str| json!({"name": name, "type": "string", "format": format, "description": about, "priority": 0});
    let rows: Vec<Value> = shown
        .iter()
        .map(|s| {
            let full = match include {
                "None" => Value::Null,
                "Object" => s.object.clone(),
                _ => json!({
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": s.object["metadata"],
                }),
            };
            let name = &s.object["metadata"]["name"];
            json!({"cells": [name, s.total["cpu"], s.total["memory"], s.window], "object": full})
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
        "columnDefinitions": [
            column("Name", "name", "Name of the resource"),
            column("cpu", "quantity", ""), column("memory", "quantity", ""),
            column("Window", "duration", ""),
        ],
        "rows": rows,
    })
}

fn wants_table(accept: &str) -> bool {
    accept.split(',').map(str::trim).find(|c| c.starts_with("application/json")).is_some_and(|c| c.contains("as=Table"))
}

fn respond(code: StatusCode, value: &Value) -> Response<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    let mut response = Response::new(bytes);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn failure(status: &Status) -> Response<Vec<u8>> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond(code, &status.to_value())
}

fn status_of(error: Error) -> Status {
    match error {
        Error::Status(status) => *status,
        other => Status::internal(other.chain()),
    }
}

impl Server {
    /// A server that asks the kubelets with this client, which must be allowed to list nodes and pods and to use
    /// `nodes/proxy`.
    pub fn new(client: Client, shutdown: Shutdown) -> Self {
        Self { scraper: Arc::new(Scraper::new(client, shutdown)) }
    }

    /// The `APIResourceList` of the group version.
    pub fn resources() -> Value {
        let entry = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
        json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION,
            "resources": [entry("nodes", "NodeMetrics", false), entry("pods", "PodMetrics", true)],
        })
    }

    /// Answers a request that was authorized.
    pub async fn answer(&self, request: Request<()>) -> Response<Vec<u8>> {
        let Some(asked) = asked(request.uri().path()) else {
            return failure(&Status::unknown_path());
        };
        if request.method() != Method::GET {
            return failure(&Status::method_not_allowed());
        }
        if asked.resource.is_empty() {
            return respond(StatusCode::OK, &Self::resources());
        }
        let query = request.uri().query().unwrap_or_default();
        if matches!(parameter(query, "watch").as_str(), "1" | "true") {
            return failure(&Status::method_not_allowed());
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        match self.find(&asked, query).await {
            Err(status) => failure(&status),
            Ok(shown) if wants_table(accept) => {
                respond(StatusCode::OK, &table(&shown, &parameter(query, "includeObject")))
            }
            Ok(mut shown) if !asked.name.is_empty() => {
                let only = shown.pop().map(|s| s.object).unwrap_or_default();
                respond(StatusCode::OK, &only)
            }
            Ok(shown) => {
                let kind = if asked.resource == "nodes" { "NodeMetricsList" } else { "PodMetricsList" };
                let items: Vec<Value> = shown.into_iter().map(|s| s.object).collect();
                let list = json!({"kind": kind, "apiVersion": GROUP_VERSION, "metadata": Map::new(), "items": items});
                respond(StatusCode::OK, &list)
            }
        }
    }

    /// What is known of the objects asked for.
    async fn find(&self, asked: &Asked<'_>, query: &str) -> Result<Vec<Shown>, Status> {
        let not_found = || Status::not_found(&GroupResource::new(GROUP, asked.resource), asked.name);
        let mut params = ListParams {
            label_selector: parameter(query, "labelSelector"),
            field_selector: parameter(query, "fieldSelector"),
            ..ListParams::default()
        };
        if !asked.name.is_empty() {
            params.field_selector = format!("metadata.name={}", asked.name);
        }
        let mut objects = self.scraper.metadata(asked.resource, asked.namespace, params).await.map_err(status_of)?;
        if objects.is_empty() {
            return if asked.name.is_empty() { Ok(Vec::new()) } else { Err(not_found()) };
        }
        objects.sort_by(|a, b| (a.namespace(), a.name()).cmp(&(b.namespace(), b.name())));
        self.scraper.fresh().await;
        let samples = self.scraper.samples.read();
        let shown: Vec<Shown> = objects
            .iter()
            .filter_map(|of| {
                if asked.resource == "nodes" {
                    let usage = samples.node(of.name())?;
                    object("NodeMetrics", of, &[(String::new(), usage)])
                } else {
                    object("PodMetrics", of, &samples.pod(of.namespace(), of.name())?)
                }
            })
            .collect();
        if shown.is_empty() && !asked.name.is_empty() {
            return Err(not_found());
        }
        Ok(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries() {
        let pods = asked("/apis/metrics.k8s.io/v1beta1/namespaces/n/pods/p").unwrap();
        assert_eq!(pods, Asked { namespace: "n", resource: "pods", name: "p" });
        assert!(asked("/apis/metrics.k8s.io/v1beta1/pods/p").is_none());
        assert_eq!(parameter("a=b&labelSelector=x%3Dy%2Cz+w", "labelSelector"), "x=y,z w");
    }

    #[test]
    fn windows_as_go_prints_them() {
        for (millis, want) in [(15_000, "15s"), (15_230, "15.23s"), (61_001, "1m1.001s"), (120_000, "2m0s")] {
            assert_eq!(duration(millis), want);
        }
    }

    #[test]
    fn quantities_are_canonical() {
        assert_eq!(quantities(5_000_000, 4096), json!({"cpu": "5m", "memory": "4Ki"}));
        assert_eq!(quantities(1_234_567, 4097), json!({"cpu": "1234567n", "memory": "4097"}));
    }
}
