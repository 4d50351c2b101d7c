//! The running proxy against an API server of the test's own: lists and watches in, connections out.

mod cluster;

use async_trait::async_trait;
use client::{Body, Client, Transport, TransportError};
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use proxy::{Config, run};
use rt::Shutdown;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use sys::netlink::{Handle, LinkKind, NetNs, NewLink, Route, RouteScope, VethPeer, sysctl};
use tokio::sync::mpsc;

/// Lists are empty but for the Node; watches carry what the test sends, by the last part of the path.
#[derive(Clone, Default)]
struct Api {
    watches: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<Value>>>>,
}

impl Api {
    fn send(&self, resource: &str, kind: &str, object: Value) {
        let watches = self.watches.lock().unwrap();
        watches[resource].send(json!({ "type": kind, "object": object })).unwrap();
    }

    fn watched(&self, resource: &str) -> bool {
        self.watches.lock().unwrap().contains_key(resource)
    }
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let answer = http::Response::builder().header("content-type", "application/json");
        if request.uri().query().is_some_and(|q| q.contains("watch=true")) {
            let (to, from) = mpsc::unbounded_channel::<Value>();
            self.watches.lock().unwrap().insert(resource, to);
            let lines = futures::stream::unfold(from, |mut from| async move {
                let event = from.recv().await?;
                let frame = http_body::Frame::data(bytes::Bytes::from(format!("{event}\n")));
                Some((Ok::<_, Box<dyn std::error::Error + Send + Sync>>(frame), from))
            });
            return Ok(answer.body(StreamBody::new(lines.boxed()).boxed_unsync()).unwrap());
        }
        let (version, kind, items) = match resource.as_str() {
            "services" => ("v1", "ServiceList", json!([])),
            "endpointslices" => ("discovery.k8s.io/v1", "EndpointSliceList", json!([])),
            "nodes" => (
                "v1",
                "NodeList",
                json!([{ "metadata": { "name": "n1", "resourceVersion": "1" }, "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] } }]),
            ),
            _ => ("networking.k8s.io/v1", "ServiceCIDRList", json!([])),
        };
        let list =
            json!({ "apiVersion": version, "kind": kind, "metadata": { "resourceVersion": "1" }, "items": items });
        Ok(answer.body(client::body(list.to_string())).unwrap())
    }
}

/// A node with one pod at 10.244.0.2, which answers on 8080.
fn pod(node: &NetNs) -> NetNs {
    let pod = NetNs::create().unwrap();
    sysctl::set_all_in(node, &[("net/ipv4/ip_forward".to_owned(), "1")]).unwrap();
    let mut host = Handle::open_in(node).unwrap();
    let lo = host.link("lo").unwrap().index;
    host.set_up(lo, true).unwrap();
    let peer = VethPeer { name: "eth0", netns: Some(&pod), ..Default::default() };
    host.add_link(&NewLink { up: true, ..NewLink::new("pod", LinkKind::Veth(peer)) }).unwrap();
    let index = host.link("pod").unwrap().index;
    host.add_address(index, "10.244.0.1/24".parse().unwrap()).unwrap();
    host.add_route(&Route::to("0.0.0.0/0".parse().unwrap()).dev(index).scope(RouteScope::Link)).unwrap();
    let mut inside = Handle::open_in(&pod).unwrap();
    let eth = inside.link("eth0").unwrap().index;
    inside.set_up(eth, true).unwrap();
    inside.add_address(eth, "10.244.0.2/24".parse().unwrap()).unwrap();
    inside.add_route(&Route::to("0.0.0.0/0".parse().unwrap()).via("10.244.0.1".parse().unwrap()).dev(eth)).unwrap();
    let listener = pod.run(|| TcpListener::bind("0.0.0.0:8080").unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"hello");
        }
    });
    pod
}

fn service() -> Value {
    json!({ "metadata": { "name": "web", "namespace": "default", "resourceVersion": "2" }, "spec": { "type": "NodePort", "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "ports": [{ "port": 80, "nodePort": 30080, "protocol": "TCP" }] } })
}

fn slice() -> Value {
    json!({ "metadata": { "name": "web-1", "namespace": "default", "resourceVersion": "3", "labels": { "kubernetes.io/service-name": "web" } }, "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }], "endpoints": [{ "addresses": ["10.244.0.2"], "nodeName": "n1", "conditions": { "ready": true } }] })
}

/// Waits until a connection gets an answer; how long that took.
fn answers(to: &str) -> Duration {
    let (to, begun): (SocketAddr, _) = (to.parse().unwrap(), Instant::now());
    while begun.elapsed() < Duration::from_secs(10) {
        if let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_millis(20)) {
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            if text == "hello" {
                return begun.elapsed();
            }
        }
    }
    panic!("{to} never answered");
}

fn http(to: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn from_watch_events_to_connections() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let node = NetNs::create().unwrap();
    let _pod = pod(&node);
    let api = Api::default();
    let served = api.clone();
    let inside = node.try_clone().unwrap();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let proxy = std::thread::spawn(move || {
        // A thread of its own for the whole runtime: its blocking threads inherit the namespace.
        inside.enter_this_thread().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(Config::new("n1"), Client::new(Arc::new(served), "test"), stop)).unwrap();
    });
    node.run(|| {
        while !(api.watched("services") && api.watched("endpointslices")) {
            std::thread::yield_now();
        }
        api.send("services", "ADDED", service());
        api.send("endpointslices", "ADDED", slice());
        println!("first answer after {:?}", answers("10.96.0.20:80"));
        println!("node port after {:?}", answers("10.244.0.1:30080").min(answers("127.0.0.1:30080")));
        assert!(http("127.0.0.1:10256", "/healthz").starts_with("HTTP/1.1 200"));
        assert!(http("127.0.0.1:10249", "/proxyMode").ends_with("nftables"));
        let metrics = http("127.0.0.1:10249", "/metrics");
        assert!(metrics.contains("kubeproxy_sync_full_proxy_rules_duration_seconds_count"), "{metrics}");
        let sums: Vec<&str> = metrics
            .lines()
            .filter(|l| l.contains("duration_seconds_sum") || l.contains("duration_seconds_count"))
            .collect();
        println!("{sums:#?}");
        let listing = std::process::Command::new("nft").args(["list", "table", "ip", "kube-proxy"]).output().unwrap();
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        assert!(listing.contains("dnat to 10.244.0.2:8080"), "{listing}");
        println!("{listing}");
        api.send("services", "DELETED", service());
        let (to, begun): (SocketAddr, _) = ("10.96.0.20:80".parse().unwrap(), Instant::now());
        while TcpStream::connect_timeout(&to, Duration::from_millis(50)).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
    })
    .unwrap();
    shutdown.cancel();
    proxy.join().unwrap();
}
