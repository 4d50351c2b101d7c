//! Bad input gets what upstream's API server answered to the same request: `data/bad_input.json` has the requests, in order, and
//! upstream 1.36's code, reason, message and warnings to each.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{World, answer};

/// A request, and what upstream says to it.
#[derive(Deserialize)]
struct Case {
    name: String,
    method: String,
    path: String,
    /// `Content-Type`.
    #[serde(rename = "type")]
    content_type: Option<String>,
    accept: Option<String>,
    body: Option<String>,
    /// The body in hexadecimal digits.
    hex: Option<String>,
    /// The body as head, unit, repetitions of it, tail.
    fill: Option<(String, String, usize, String)>,
    want: Want,
}

#[derive(Deserialize)]
struct Want {
    code: u16,
    #[serde(default)]
    reason: String,
    message: Option<String>,
    message_begins: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// Where the words differ, knowingly: most show upstream's inner workings, such as Go's way to print a map.
const KNOWN: &[&str] = &[
    "delete options: other uid",
    "delete options: other version",
    "too large for a config map",
    "intOrString: bool",
    "custom: number too large",
    "custom: float",
    "custom: wrong version",
    "watch as a metadata list",
    "GET /api/v1/namespaces/default/configmaps/a%00b",
    "GET /api/v1/componentstatuses/nope",
    "PUT /apis/ex.com/v1/namespaces/default/widgets",
    "POST /apis/ex.com/v1/namespaces/default/widgets/bad",
    "list?limit=1&continue=garbage",
    "list?continue=garbage",
    "list?continue=%21%21",
    "list?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi9mb28ifQ",
    "list?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiJmb28ifQ",
    "list?continue=eyJ2IjoidjkiLCJydiI6NSwic3RhcnQiOiJmb28ifQ",
    "list?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiIifQ",
    "watch?resourceVersionMatch=Exact&resourceVersion=0",
    "watch?sendInitialEvents=true&resourceVersionMatch=Exact",
    "watch?resourceVersionMatch=Nope",
    "table with a bad includeObject",
    "create?fieldManager=%07",
    "update: other uid",
    "update: bad version",
    "update: custom without a version",
    "strategic patch {\"data\":7}",
    "strategic patch {\"data\":{\"a\":1}}",
    "strategic patch {\"$patch\":\"nope\"}",
    "strategic patch {\"$patch\":\"replace\",\"data\":{}}",
    "strategic patch {\"spec\":{\"$retainKeys\":[\"x\"]}}",
    "strategic patch {\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"image\":\"i\"}]}}}}",
    "strategic patch {\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"$patch\":\"nope\",\"name\":\"c\"}]}}}}",
    "strategic patch {\"spec\":{\"template\":{\"spec\":{\"containers\":{\"name\":\"c\"}}}}}",
    "strategic patch {\"spec\":{\"template\":{\"spec\":{\"containers\":[7]}}}}",
    "strategic patch {\"spec\":{\"template\":{\"spec\":{\"$setElementOrder/containers\":[{\"name\":\"z\"}],\"containers\":[{\"",
    "strategic patch {\"spec\":{\"replicas\":\"x\"}}",
    "apply: two documents",
    "protobuf: magic only",
    "protobuf: length overflow",
    "protobuf: group tag",
    "protobuf: end group",
    "protobuf: field zero",
    "protobuf: wrong wire type",
    "protobuf: invalid UTF-8 name",
    "review: empty",
];

impl Case {
    fn body(&self) -> Vec<u8> {
        if let Some(hex) = &self.hex {
            let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
            return digits.map(|pair| u8::from_str_radix(pair, 16).expect("a byte")).collect();
        }
        if let Some((head, unit, times, tail)) = &self.fill {
            return format!("{head}{}{tail}", unit.repeat(*times)).into_bytes();
        }
        self.body.clone().unwrap_or_default().into_bytes()
    }

    /// What is wrong with an answer; nothing when it is upstream's.
    fn differs(&self, got: &crate::Answer) -> Option<String> {
        let want = &self.want;
        let text = |key: &str| got.body[key].as_str().unwrap_or("").to_owned();
        let begins = want.message_begins.as_ref().is_none_or(|begin| text("message").starts_with(begin.as_str()));
        let message = want.message.as_ref().is_none_or(|m| *m == text("message"));
        // A HEAD has no body to tell it.
        let reason = got.code < 400 || self.method == "HEAD" || want.reason == text("reason");
        let warnings = want.warnings == got.warnings;
        if got.code == want.code && begins && message && reason && warnings {
            return None;
        }
        let (reason, message) = (text("reason"), text("message"));
        let wanted = want.message.as_ref().or(want.message_begins.as_ref());
        Some(format!(
            "{}: wanted {} {} {:?} {:?}, got {} {reason} {message:?} {:?}",
            self.name, want.code, want.reason, wanted, want.warnings, got.code, got.warnings
        ))
    }
}

async fn prepare(world: &World) {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.ex.com"},
        "spec": {
            "group": "ex.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 1}, "mode": {"type": "string", "default": "a"},
                    }},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    });
    assert_eq!(world.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.code, 201);
    let widgets = "/apis/ex.com/v1/namespaces/default/widgets";
    while world.get(widgets).await.code != 200 {
        tokio::task::yield_now().await;
    }
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "bad"},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    for (path, object) in [
        (
            widgets,
            json!({"apiVersion": "ex.com/v1", "kind": "Widget", "metadata": {"name": "bad"}, "spec": {"size": 1}}),
        ),
        ("/apis/apps/v1/namespaces/default/deployments", deployment),
        (MAPS, map()),
    ] {
        let headers = [("content-type", "application/json"), ("user-agent", "rec")];
        let made = world.raw("admin", "POST", path, &headers, &object.to_string()).await;
        assert_eq!(made.status().as_u16(), 201);
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bad"}, "data": {"a": "1"}})
}

#[tokio::test]
async fn bad_input_gets_upstreams_answers() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("data/bad_input.json")).expect("the corpus");
    let world = World::start().await;
    prepare(&world).await;
    let mut wrong = Vec::new();
    for case in &cases {
        if case.path.parse::<http::Uri>().is_err() {
            continue;
        }
        if case.method == "DELETE" && world.get(&format!("{MAPS}/bad")).await.code == 404 {
            world.post(MAPS, &map()).await;
        }
        let mut headers = vec![("user-agent", "rec")];
        headers.extend(case.content_type.as_deref().map(|t| ("content-type", t)));
        headers.extend(case.accept.as_deref().map(|t| ("accept", t)));
        let response = world.bytes("admin", &case.method, &case.path, &headers, case.body()).await;
        // A watch has no end to wait for.
        if case.path.contains("watch") && response.status().is_success() {
            continue;
        }
        let got = answer(response).await;
        assert_ne!(got.body["reason"], "InternalError", "{}: {}", case.name, got.body);
        wrong.extend(case.differs(&got).filter(|_| !KNOWN.contains(&case.name.as_str())));
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
