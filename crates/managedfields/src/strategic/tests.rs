//! Patches and what comes of them.

use schema::type_by_gvk;
use serde_json::json;

use super::*;

fn pod() -> TypeRef {
    type_by_gvk(&meta::GroupVersionKind::new("", "v1", "Pod")).expect("Pod")
}

fn deployment() -> TypeRef {
    type_by_gvk(&meta::GroupVersionKind::new("apps", "v1", "Deployment")).expect("Deployment")
}

fn run(t: TypeRef, original: Value, patch: Value) -> Result<Value, Error> {
    let map = |v: Value| v.as_object().cloned().expect("object");
    apply(&map(original), &map(patch), t).map(Value::Object)
}

#[test]
fn merges() {
    let containers = json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "x", "value": "1"}]}, {"name": "b"}]}});
    let cases = [
        (
            "by key",
            json!({"spec": {"containers": [{"name": "a", "image": "2"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "2", "env": [{"name": "x", "value": "1"}]}, {"name": "b"}]}}),
        ),
        (
            "append",
            json!({"spec": {"containers": [{"name": "c"}]}}),
            json!({"spec": {"containers": [{"name": "c"}, {"name": "a", "image": "1", "env": [{"name": "x", "value": "1"}]}, {"name": "b"}]}}),
        ),
        (
            "delete",
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        ),
        (
            "replace list",
            json!({"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}),
            json!({"spec": {"containers": [{"name": "z"}]}}),
        ),
        (
            "null",
            json!({"spec": {"containers": [{"name": "a", "env": null, "image": "1"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}}),
        ),
        (
            "order",
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "image": "9"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "9"}, {"name": "a", "image": "1", "env": [{"name": "x", "value": "1"}]}]}}),
        ),
        ("replace map", json!({"spec": {"$patch": "replace", "nodeName": "n"}}), json!({"spec": {"nodeName": "n"}})),
        ("delete map", json!({"spec": {"$patch": "delete"}}), json!({"spec": {}})),
    ];
    for (name, patch, want) in cases {
        assert_eq!(run(pod(), containers.clone(), patch).expect(name), want, "{name}");
    }
}

#[test]
fn primitive_lists() {
    let original = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let patch = json!({"metadata": {"finalizers": ["d"], "$deleteFromPrimitiveList/finalizers": ["b"]}});
    let patched = run(pod(), original.clone(), patch).expect("patch");
    let mut have: Vec<String> = serde_json::from_value(patched["metadata"]["finalizers"].clone()).expect("list");
    have.sort();
    assert_eq!(have, ["a", "c", "d"]);
    let patch =
        json!({"metadata": {"$setElementOrder/finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"]}});
    let patched = run(pod(), original, patch).expect("patch");
    assert_eq!(patched["metadata"]["finalizers"], json!(["c", "a"]));
}

#[test]
fn retain_keys_clear_the_rest() {
    let original = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        run(deployment(), original.clone(), patch).expect("patch"),
        json!({"spec": {"strategy": {"type": "Recreate"}}})
    );
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["x"], "type": "Recreate"}}});
    assert_eq!(run(deployment(), original, patch), Err(Error::RetainKeys));
}

#[test]
fn atomic_lists_and_new_values() {
    let original = json!({"spec": {"tolerations": [{"key": "a"}], "nodeSelector": {"a": "1"}}});
    let patch = json!({"spec": {"tolerations": [{"key": "b"}], "nodeSelector": {"b": "2", "a": null},
        "volumes": [{"name": "v", "emptyDir": {}, "hostPath": null}]}});
    assert_eq!(
        run(pod(), original, patch).expect("patch"),
        json!({"spec": {"tolerations": [{"key": "b"}], "nodeSelector": {"b": "2"}, "volumes": [{"name": "v", "emptyDir": {}}]}})
    );
}

#[test]
fn errors_are_upstreams() {
    let original = json!({"spec": {"containers": [{"name": "a"}]}});
    let message = |patch: Value| run(pod(), original.clone(), patch).expect_err("bad patch").to_string();
    assert_eq!(
        message(json!({"spec": {"containers": [{"image": "x"}]}})),
        "map: {\"image\":\"x\"} does not contain declared merge key: name"
    );
    assert_eq!(
        message(json!({"spec": {"$patch": "smash"}})),
        "unknown patch type: smash in map: {\"$patch\":\"smash\"}"
    );
    assert_eq!(
        message(json!({"spec": {"containers": [{"name": "a", "$patch": "merge"}]}})),
        "merging lists cannot yet be specified in the patch"
    );
    assert!(
        message(json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}))
            .starts_with("The order in patch list:")
    );
}
