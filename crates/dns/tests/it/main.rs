//! The running server against an API server of the test's own: what it lists and watches is what it answers.

use async_trait::async_trait;
use client::{Body, Client, Transport, TransportError};
use futures::StreamExt;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use http_body_util::{BodyExt, StreamBody};
use rt::Shutdown;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

#[derive(Clone, Default)]
struct Api {
    watches: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<Value>>>>,
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let answer = http::Response::builder().header("content-type", "application/json");
        if resource == "namespaces" {
            // As for an identity that may not see them.
            let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403 });
            return Ok(answer.status(403).body(client::body(status.to_string())).unwrap());
        }
        if request.uri().query().is_some_and(|q| q.contains("watch=true")) {
            let (to, from) = mpsc::unbounded_channel::<Value>();
            self.watches.lock().unwrap().insert(resource, to);
            let lines = futures::stream::unfold(from, |mut from| async move {
                let frame = http_body::Frame::data(bytes::Bytes::from(format!("{}\n", from.recv().await?)));
                Some((Ok::<_, Box<dyn std::error::Error + Send + Sync>>(frame), from))
            });
            return Ok(answer.body(StreamBody::new(lines.boxed()).boxed_unsync()).unwrap());
        }
        let (version, kind, items) = match resource.as_str() {
            "services" => (
                "v1",
                "ServiceList",
                json!([{ "metadata": { "name": "web", "namespace": "default", "resourceVersion": "1" }, "spec": { "clusterIP": "10.96.0.20", "ports": [{ "name": "http", "port": 80 }] } }]),
            ),
            _ => ("discovery.k8s.io/v1", "EndpointSliceList", json!([])),
        };
        let list =
            json!({ "apiVersion": version, "kind": kind, "metadata": { "resourceVersion": "1" }, "items": items });
        Ok(answer.body(client::body(list.to_string())).unwrap())
    }
}

/// An answer in a line; asks again while nothing answers there yet.
async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let bytes = message.to_vec().unwrap();
    let mut buf = [0; 4096];
    for _ in 0..100 {
        if socket.send(&bytes).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        match tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut buf)).await {
            Ok(Ok(len)) => {
                let answer = Message::from_vec(&buf[..len]).unwrap();
                let data: Vec<String> = answer.answers.iter().map(|r| r.data.to_string()).collect();
                return if answer.metadata.response_code == ResponseCode::NoError {
                    data.join(",")
                } else {
                    answer.metadata.response_code.to_string()
                };
            }
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("no answer to {name}");
}

#[tokio::test]
async fn lists_and_watches_become_answers() {
    let api = Api::default();
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let shutdown = Shutdown::new();
    let client = Client::new(Arc::new(api.clone()), "test");
    let server = tokio::spawn(dns::serve(dns::Config::new(vec![free], "cluster.local"), client, shutdown.clone()));
    assert_eq!(ask(free, "web.default.svc.cluster.local.", RecordType::A).await, "10.96.0.20");
    assert_eq!(ask(free, "10-1-0-5.default.pod.cluster.local.", RecordType::A).await, "10.1.0.5");
    let send = |resource: &str, kind: &str, object: Value| {
        api.watches.lock().unwrap()[resource].send(json!({ "type": kind, "object": object })).unwrap();
    };
    send(
        "services",
        "ADDED",
        json!({ "metadata": { "name": "head", "namespace": "default", "resourceVersion": "2" }, "spec": { "clusterIP": "None" } }),
    );
    send(
        "endpointslices",
        "ADDED",
        json!({ "metadata": { "name": "head-1", "namespace": "default", "resourceVersion": "3", "labels": { "kubernetes.io/service-name": "head" } },
        "addressType": "IPv4", "ports": [], "endpoints": [{ "addresses": ["10.1.0.9"], "hostname": "pod-0" }] }),
    );
    send(
        "services",
        "DELETED",
        json!({ "metadata": { "name": "web", "namespace": "default", "resourceVersion": "4" }, "spec": { "clusterIP": "10.96.0.20" } }),
    );
    let mut seen = String::new();
    for _ in 0..200 {
        seen = ask(free, "pod-0.head.default.svc.cluster.local.", RecordType::A).await;
        if seen == "10.1.0.9" && ask(free, "web.default.svc.cluster.local.", RecordType::A).await != "10.96.0.20" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(seen, "10.1.0.9");
    assert_eq!(ask(free, "web.default.svc.cluster.local.", RecordType::A).await, ResponseCode::NXDomain.to_string());
    shutdown.cancel();
    server.await.unwrap().unwrap();
}
