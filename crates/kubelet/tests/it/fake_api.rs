//! An API server in memory: pods with status patches, deletes and watches; ConfigMaps to get and watch; everything else
//! is accepted and forgotten, or empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use client::{Body, Transport, TransportError, body};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, Value>,
    events: Vec<String>,
    phases: Vec<String>,
    history: Vec<(u64, String, Value)>,
}

pub struct FakeApi {
    state: Mutex<State>,
    changes: broadcast::Sender<(String, Value)>,
}

impl FakeApi {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changes: broadcast::channel(8192).0 })
    }

    /// Creates or replaces an object at a path such as `/api/v1/namespaces/n/pods/p`.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let kind = if state.objects.insert(path.to_owned(), object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        self.publish(&mut state, path, json!({"type": kind, "object": object}));
    }

    fn publish(&self, state: &mut State, path: &str, event: Value) {
        state.history.push((state.version, path.to_owned(), event.clone()));
        let _ = self.changes.send((path.to_owned(), event));
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    pub fn remove(&self, path: &str) {
        let mut state = self.state.lock();
        state.version += 1;
        if let Some(object) = state.objects.remove(path) {
            self.publish(&mut state, path, json!({"type": "DELETED", "object": object}));
        }
    }

    /// Begins a graceful deletion.
    pub fn delete(&self, path: &str, grace: i64) {
        let mut object = self.get(path).unwrap();
        object["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
        object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        self.put(path, object);
    }

    /// Reasons of events, in order.
    pub fn events(&self) -> Vec<String> {
        self.state.lock().events.clone()
    }

    /// Phases as they were patched.
    pub fn phases(&self) -> Vec<String> {
        self.state.lock().phases.clone()
    }

    fn list(&self, path: &str) -> Value {
        let state = self.state.lock();
        let items: Vec<&Value> = state.objects.iter().filter(|(k, _)| covers(path, k)).map(|(_, v)| v).collect();
        json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items})
    }

    fn patch_status(&self, path: &str, patch: &Value) -> Option<Value> {
        let mut object = self.get(path)?;
        if object["metadata"]["uid"] != patch["metadata"]["uid"] {
            return None;
        }
        for (key, value) in patch["status"].as_object()? {
            if key == "phase" {
                self.state.lock().phases.push(value.as_str()?.to_owned());
            }
            match key.as_str() {
                "conditions" => {
                    let mut list = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
                    for condition in value.as_array()? {
                        list.retain(|c| c["type"] != condition["type"]);
                        list.push(condition.clone());
                    }
                    object["status"]["conditions"] = list.into();
                }
                "podIPs" => object["status"]["podIPs"] = value.as_array()?[1..].to_vec().into(),
                _ => object["status"][key] = value.clone(),
            }
        }
        self.put(path, object.clone());
        Some(object)
    }
}

/// Whether an object is in a collection: `/api/v1/pods` covers those of all namespaces.
fn covers(collection: &str, object: &str) -> bool {
    let (parent, _) = object.rsplit_once('/').unwrap_or_default();
    let resource = collection.rsplit('/').next().unwrap_or_default();
    parent == collection || (!collection.contains("/namespaces/") && parent.ends_with(&format!("/{resource}")))
}

fn answer(code: u16, value: &Value) -> Response<Body> {
    Response::builder().status(code).body(body(value.to_string())).unwrap()
}

#[async_trait]
impl Transport for FakeApi {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let (head, payload) = request.into_parts();
        let payload = payload.collect().await.map(|c| c.to_bytes()).unwrap_or_default();
        let payload: Value = serde_json::from_slice(&payload).unwrap_or_default();
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
        let not_found = || {
            answer(
                404,
                &json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}),
            )
        };
        if query.contains("watch=true") {
            let from: u64 = query
                .split('&')
                .find_map(|p| p.strip_prefix("resourceVersion="))
                .and_then(|v| v.parse().ok())
                .unwrap_or(0);
            let (mut changes, missed) = {
                let state = self.state.lock();
                let missed = state.history.iter().filter(|(v, _, _)| *v > from).map(|(_, p, e)| (p.clone(), e.clone()));
                (self.changes.subscribe(), missed.collect::<Vec<_>>())
            };
            let name =
                query.split('&').find_map(|p| p.strip_prefix("fieldSelector=metadata.name%3D")).map(str::to_owned);
            let stream = async_stream(move |send| async move {
                let mut missed = missed.into_iter();
                loop {
                    let (object, event) = match missed.next() {
                        Some(next) => next,
                        None => match changes.recv().await {
                            Ok(next) => next,
                            Err(_) => return,
                        },
                    };
                    let named = name.as_ref().is_none_or(|n| object.ends_with(&format!("/{n}")));
                    if covers(&path, &object) && named && send.send(event).await.is_err() {
                        return;
                    }
                }
            });
            return Ok(Response::new(stream));
        }
        Ok(match (head.method, path.as_str()) {
            (Method::GET, path)
                if ["pods", "services", "nodes", "configmaps", "secrets"].iter().any(|r| path.ends_with(r)) =>
            {
                answer(200, &self.list(path))
            }
            (Method::GET, path) => self.get(path).map_or_else(not_found, |o| answer(200, &o)),
            (Method::POST, path) => {
                if path.ends_with("/events") {
                    self.state.lock().events.push(payload["reason"].as_str().unwrap_or_default().to_owned());
                }
                answer(201, &payload)
            }
            (Method::PATCH, path) if path.contains("/pods/") => self
                .patch_status(path.trim_end_matches("/status"), &payload)
                .map_or_else(not_found, |o| answer(200, &o)),
            (Method::DELETE, path) => {
                self.remove(path);
                answer(200, &json!({"kind": "Status", "status": "Success"}))
            }
            (_, _) => answer(200, &payload),
        })
    }
}

/// A body fed by a task.
fn async_stream<F>(feed: impl FnOnce(tokio::sync::mpsc::Sender<Value>) -> F) -> Body
where
    F: Future<Output = ()> + Send + 'static,
{
    let (send, receive) = tokio::sync::mpsc::channel(16);
    tokio::spawn(feed(send));
    let stream = futures::stream::unfold(receive, |mut r| async {
        let value: Value = r.recv().await?;
        Some((Ok(Frame::data(Bytes::from(format!("{value}\n")))), r))
    });
    StreamBody::new(stream).boxed_unsync()
}
