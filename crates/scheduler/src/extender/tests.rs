//! Extenders over real HTTP: good ones, and ones that hang, lie or fail.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Extender;
use crate::config::ExtenderConfig;
use crate::testing::{Bench, node, pod};

/// Reads one request with its body; none when the connection ended.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Value)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let length =
                head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            let begin = end + 4;
            if buffer.len() >= begin + length {
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let body = serde_json::from_slice(&buffer[begin..begin + length]).unwrap_or_default();
                buffer.drain(..begin + length);
                return Some((path, body));
            }
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        buffer.extend_from_slice(&chunk[..read]);
    }
}

/// What a verb answers: a status and a text; none hangs.
fn answer(path: &str, body: &Value) -> Option<(u16, String)> {
    let names = |keep: &dyn Fn(&str) -> bool| -> Vec<String> {
        let all = body["NodeNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.filter(|name| keep(name)).map(str::to_owned).collect()
    };
    let text = match path {
        "/first" => {
            json!({"NodeNames": names(&|n| n == "a"), "FailedNodes": {"b": "not b", "c": "not c"}})
        }
        "/none" => json!({"NodeNames": [], "FailedNodes": {"a": "no a", "b": "no b", "c": "no c"}}),
        "/unknown" => json!({"NodeNames": ["a", "moon"]}),
        "/says" => json!({"Error": "out of order"}),
        "/broken" => return Some((500, "no".to_owned())),
        "/garbage" => return Some((200, "[1, 2".to_owned())),
        "/list" => json!([1, 2]),
        "/score" => json!([{"Host": "b", "Score": 10}, {"Host": "moon", "Score": 10}]),
        "/huge" => json!([{"Host": "b", "Score": i64::MAX}, {"Host": "a", "Score": i64::MIN}]),
        _ => return None,
    };
    Some((200, text.to_string()))
}

/// A server; gives its URL.
async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = Vec::new();
                while let Some((path, body)) = request(&mut stream, &mut buffer).await {
                    let Some((status, text)) = answer(&path, &body) else {
                        std::future::pending::<()>().await;
                        return;
                    };
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", text.len());
                    if stream.write_all(format!("{head}{text}").as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

fn extender(url: &str, rest: &Value) -> Arc<Extender> {
    let mut config = json!({"urlPrefix": url, "nodeCacheCapable": true, "httpTimeout": "300ms", "weight": 1});
    for (key, value) in rest.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    let config: ExtenderConfig = serde_json::from_value(config).unwrap();
    Arc::new(Extender::new(&config).unwrap())
}

fn cluster(extenders: Vec<Arc<Extender>>) -> Bench {
    let mut bench = Bench::new(["a", "b", "c"].map(|name| node(name, "8", &Value::Null, &json!({}))));
    bench.engine.extenders = extenders;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_scores() {
    let url = server().await;
    let pod = pod("p", &Value::Null, &json!({}));
    let first = extender(&url, &json!({"filterVerb": "first"}));
    assert_eq!(cluster(vec![first]).place(&pod).await, Ok("a".into()));
    let scoring = extender(&url, &json!({"prioritizeVerb": "score"}));
    assert_eq!(cluster(vec![scoring]).place(&pod).await, Ok("b".into()));
    // Scores beyond all bounds must not break sums.
    let huge = extender(&url, &json!({"prioritizeVerb": "huge", "weight": 9}));
    assert_eq!(cluster(vec![huge]).place(&pod).await, Ok("b".into()));
    let none = extender(&url, &json!({"filterVerb": "none"}));
    let said = cluster(vec![none]).place(&pod).await.unwrap_err();
    assert!(said.starts_with("0/3 nodes are available: 1 no a, 1 no b, 1 no c."), "{said}");
    // It is not asked about pods that want nothing of what it manages.
    let managed = json!([{"name": "example.com/x", "ignoredByScheduler": true}]);
    let idle = extender(&url, &json!({"filterVerb": "none", "managedResources": managed}));
    assert!(cluster(vec![idle]).place(&pod).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extender_that_fails_stops_its_pods_unless_it_may_be_ignored() {
    let url = server().await;
    let pod = pod("p", &Value::Null, &json!({}));
    for (verb, want) in [
        ("unknown", "claims a filtered node \"moon\" which is not found in the input node list"),
        ("says", "out of order"),
        ("broken", "failed broken with extender at URL"),
        ("garbage", "bad answer"),
        ("list", "bad answer"),
        ("hang", "no answer in 300ms"),
    ] {
        let failing = extender(&url, &json!({"filterVerb": verb}));
        let said = cluster(vec![failing]).place(&pod).await.unwrap_err();
        assert!(said.contains(want), "{verb}: {said}");
        let ignorable = extender(&url, &json!({"filterVerb": verb, "ignorable": true}));
        assert!(cluster(vec![ignorable]).place(&pod).await.is_ok(), "{verb}");
    }
    // Scores that do not come are none.
    for verb in ["hang", "broken", "garbage"] {
        let silent = extender(&url, &json!({"prioritizeVerb": verb}));
        assert!(cluster(vec![silent]).place(&pod).await.is_ok(), "{verb}");
    }
    assert_eq!(Duration::from_millis(300), extender(&url, &json!({})).timeout);
}
