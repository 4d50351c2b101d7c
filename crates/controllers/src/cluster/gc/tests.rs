//! A definition that vanishes, against a server of canned answers.

use std::sync::Arc;

use async_trait::async_trait;
use client::{Body, Client, Transport, TransportError};
use informer::Queue;
use parking_lot::Mutex;
use rt::Shutdown;
use rt::sync::watch;
use serde_json::{Value, json};

use super::graph::{Graph, Identity, Observed};
use super::{Collector, Task};

/// What a path is answered with; others lead nowhere. Watches hang.
type Answers = Vec<(&'static str, u16, Value)>;

struct Server(Mutex<Answers>);

#[async_trait]
impl Transport for Server {
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            std::future::pending::<()>().await;
        }
        let path = request.uri().path();
        let found = self.0.lock().iter().find(|(known, _, _)| *known == path).cloned();
        let (code, text) =
            found.map_or((404, "404 page not found\n".to_owned()), |(_, c, value)| (c, value.to_string()));
        let mut answer = http::Response::new(client::body(text));
        *answer.status_mut() = http::StatusCode::from_u16(code).unwrap();
        Ok(answer)
    }
}

fn resources(list: &[(&str, &str)]) -> Value {
    let verbs = json!(["get", "list", "watch", "delete"]);
    let resource =
        |(name, kind): &(&str, &str)| json!({"name": name, "kind": kind, "namespaced": true, "verbs": verbs});
    json!({"resources": list.iter().map(resource).collect::<Vec<_>>()})
}

fn groups(list: &[&str]) -> Value {
    let group = |version: &&str| json!({"preferredVersion": {"groupVersion": version}});
    json!({"groups": list.iter().map(group).collect::<Vec<_>>()})
}

fn list(items: &Value) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
}

fn with_things() -> Answers {
    vec![
        ("/apis", 200, groups(&["things.test/v1"])),
        ("/api/v1", 200, resources(&[("configmaps", "ConfigMap")])),
        ("/apis/things.test/v1", 200, resources(&[("things", "Thing")])),
        ("/apis/things.test/v1/things", 200, list(&json!([]))),
        ("/api/v1/configmaps", 200, list(&json!([]))),
    ]
}

fn thing(name: &str) -> Identity {
    let [api_version, kind, namespace] = ["things.test/v1", "Thing", "ns"].map(str::to_owned);
    Identity { api_version, kind, namespace, name: name.to_owned(), uid: format!("uid of {name}") }
}

fn collector(answers: Answers) -> (Arc<Collector>, Arc<Server>) {
    let server = Arc::new(Server(Mutex::new(answers)));
    let collector = Collector {
        client: Client::new(server.clone(), "test"),
        graph: Mutex::new(Graph::default()),
        queue: Arc::new(Queue::new()),
        monitors: Mutex::default(),
        kinds: Mutex::default(),
        unlisted: watch::Sender::new(None),
        shutdown: Shutdown::new(),
    };
    (Arc::new(collector), server)
}

#[tokio::test(start_paused = true)]
async fn an_owner_of_a_kind_that_nobody_serves_is_not_absent() {
    let missing = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
        "message": "things.things.test \"gone\" not found", "details": {"name": "gone", "kind": "things"},
    });
    let mut answers = with_things();
    answers.push(("/apis/things.test/v1/namespaces/ns/things/gone", 404, missing));
    let (collector, _server) = collector(answers);
    assert!(collector.live(&thing("a")).await.is_err(), "nothing is known of the kind yet");
    collector.clone().rediscover().await.unwrap();
    assert!(collector.live(&thing("gone")).await.unwrap().is_none(), "the server misses it by name");
    // The path is gone before the next discovery.
    assert!(collector.live(&thing("a")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_vanishes_takes_its_monitor_and_its_objects() {
    let (collector, server) = collector(with_things());
    collector.clone().rediscover().await.unwrap();
    assert_eq!(collector.monitors.lock().len(), 2);
    let seen = |identity: Identity, owners| Observed { identity, owners, deleting: false, finalizers: Vec::new() };
    collector.observe(|graph| graph.upsert(seen(thing("a"), Vec::new())));
    server.0.lock().retain(|(path, _, _)| !path.contains("things.test"));
    // Its group is still named, and cannot be read: nothing is taken for gone.
    collector.clone().rediscover().await.unwrap();
    assert_eq!(collector.monitors.lock().len(), 2);
    server.0.lock().iter_mut().filter(|(path, _, _)| *path == "/apis").for_each(|(_, _, said)| *said = groups(&[]));
    collector.clone().rediscover().await.unwrap();
    assert_eq!(collector.monitors.lock().len(), 1);
    assert!(collector.graph.lock().item("uid of a").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_cannot_be_listed_holds_up_the_others_once() {
    let mut answers = with_things();
    answers.retain(|(path, _, _)| *path != "/apis/things.test/v1/things");
    let (collector, _server) = collector(answers);
    collector.clone().rediscover().await.unwrap();
    assert!(!collector.has_listed());
    let began = rt::time::Instant::now();
    collector.clone().work(Task::Delete("unknown".into())).await.unwrap();
    let first = began.elapsed();
    assert!(first >= super::LISTS_LIMIT, "{first:?}");
    collector.clone().work(Task::Delete("unknown".into())).await.unwrap();
    assert_eq!(began.elapsed(), first, "the second one waited as well");
}
