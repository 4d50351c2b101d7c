//! Webhooks with a caller that answers from a script.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{CallError, Caller, Target};
use crate::tests::Bench;

type Script = Box<dyn Fn(&str, &Value) -> Result<Value, CallError> + Send + Sync>;

/// Answers by the path of the webhook, and remembers the calls.
struct Scripted {
    script: Script,
    calls: Mutex<Vec<String>>,
}

#[async_trait]
impl Caller for Scripted {
    async fn call(&self, target: &Target, review: &Value, _timeout: Duration) -> Result<Value, CallError> {
        self.calls.lock().push(target.path.clone());
        let request = &review["request"];
        let mut response = (self.script)(&target.path, request)?;
        response["uid"] = request["uid"].clone();
        Ok(json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}))
    }
}

fn hook(name: &str, more: Value) -> Value {
    let mut hook = json!({"name": name, "clientConfig": {"service": {"namespace": "hooks", "name": "svc", "path": name}},
        "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["configmaps"]}],
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail"});
    for (field, value) in more.as_object().unwrap() {
        hook[field] = value.clone();
    }
    hook
}

fn bench(kind: &str, hooks: Vec<Value>, script: Script) -> (Bench, Arc<Scripted>) {
    let caller = Arc::new(Scripted { script, calls: Mutex::default() });
    let bench = Bench::with_caller(&[], Some(caller.clone()));
    bench.world.put(kind, json!({"metadata": {"name": "c", "uid": "1", "resourceVersion": "1"}, "webhooks": hooks}));
    (bench, caller)
}

fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

fn map() -> Option<Value> {
    Some(json!({"metadata": {"namespace": "ns", "name": "m"}, "data": {"start": "yes"}}))
}

#[tokio::test]
async fn mutating_webhooks_patch_in_order_and_again() {
    let script: Script = Box::new(|path, request| {
        let has = |key: &str| request["object"]["data"].get(key).is_some();
        Ok(match path {
            "/a" if has("b") => patch(json!([{"op": "add", "path": "/data/again", "value": "yes"}])),
            "/a" => json!({"allowed": true}),
            _ if has("b") => json!({"allowed": true}),
            _ => patch(json!([{"op": "add", "path": "/data/b", "value": "yes"}])),
        })
    });
    let hooks = vec![hook("a", json!({"reinvocationPolicy": "IfNeeded"})), hook("b", json!({}))];
    let (bench, caller) = bench("mutatingwebhookconfigurations", hooks, script);
    let made = bench.run("CREATE configmaps ns m", None, map()).await.unwrap().unwrap();
    assert_eq!(made.get(&["data"]), Some(&json!({"again": "yes", "b": "yes", "start": "yes"})));
    assert_eq!(*caller.calls.lock(), ["/a", "/b", "/a"]);
}

#[tokio::test]
async fn validating_webhooks_refuse_fail_and_are_selected() {
    let script: Script = Box::new(|path, _| match path {
        "/broken" => Err(CallError("Post: context deadline exceeded".into())),
        "/no" => Ok(json!({"allowed": false, "status": {"message": "not today", "code": 403}})),
        "/patching" => Ok(patch(json!([]))),
        _ => Ok(json!({"allowed": true, "warnings": ["careful"]})),
    });
    let elsewhere = json!({"namespaceSelector": {"matchLabels": {"x": "y"}}});
    let cases = [
        (hook("yes", json!({})), Ok(())),
        (hook("no", json!({})), Err("admission webhook \"no\" denied the request: not today")),
        (hook("no", elsewhere), Ok(())),
        (hook("no", json!({"objectSelector": {"matchLabels": {"x": "y"}}})), Ok(())),
        (hook("no", json!({"rules": []})), Ok(())),
        (hook("broken", json!({"failurePolicy": "Ignore"})), Ok(())),
        (
            hook("broken", json!({})),
            Err(
                "Internal error occurred: failed calling webhook \"broken\": failed to call webhook: Post: context deadline exceeded",
            ),
        ),
        (
            hook("patching", json!({})),
            Err(
                "Internal error occurred: failed calling webhook \"patching\": received invalid webhook response: validating webhook may not return response.patch",
            ),
        ),
        (hook("no", json!({"matchConditions": [{"name": "x", "expression": "object.data.start == 'no'"}]})), Ok(())),
        (
            hook("no", json!({"matchConditions": [{"name": "x", "expression": "object.data.start == 'yes'"}]})),
            Err("admission webhook \"no\" denied the request: not today"),
        ),
        (
            hook("yes", json!({"matchConditions": [{"name": "x", "expression": "object.nope == 1"}]})),
            Err("configmaps \"m\" is forbidden: expression 'object.nope == 1' resulted in error: no such key: nope"),
        ),
    ];
    let (bench, _) = bench("validatingwebhookconfigurations", Vec::new(), script);
    for (version, (hook, want)) in cases.into_iter().enumerate() {
        let version = (version + 2).to_string();
        let configuration =
            json!({"metadata": {"name": "c", "uid": "1", "resourceVersion": version}, "webhooks": [hook]});
        bench.world.put("validatingwebhookconfigurations", configuration.clone());
        let got = bench.run("CREATE configmaps ns m", None, map()).await.map(drop).map_err(|s| s.message);
        assert_eq!(got, want.map_err(str::to_owned), "{configuration}");
    }
    assert_eq!(bench.warnings.take(), ["careful"]);
}
