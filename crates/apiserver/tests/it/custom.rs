//! Custom resources from definition to deletion.

use serde_json::{Value, json};

use crate::World;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/ex.com/v1/namespaces/default/widgets";

fn definition() -> Value {
    json!({
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
    })
}

fn widget(spec: &Value) -> Value {
    json!({"apiVersion": "ex.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec})
}

async fn until(world: &World, path: &str, done: impl Fn(&crate::Answer) -> bool) -> crate::Answer {
    for _ in 0..10_000 {
        let answer = world.get(path).await;
        if done(&answer) {
            return answer;
        }
        tokio::task::yield_now().await;
    }
    panic!("{path} never came to what was awaited");
}

#[tokio::test]
async fn lives_by_its_definition() {
    let world = World::start().await;
    assert_eq!(world.post(DEFINITIONS, &definition()).await.code, 201);
    let own = format!("{DEFINITIONS}/widgets.ex.com");
    let established = |a: &crate::Answer| {
        let all = a.body["status"]["conditions"].as_array();
        all.is_some_and(|l| l.iter().any(|c| c["type"] == "Established" && c["status"] == "True"))
    };
    until(&world, &own, established).await;

    let made = world.post(WIDGETS, &widget(&json!({"size": 2, "odd": 1}))).await;
    assert_eq!(made.code, 201);
    assert_eq!(made.body["spec"], json!({"size": 2, "mode": "a"}), "pruned and defaulted");
    assert_eq!(made.warnings, ["299 - \"unknown field \\\"spec.odd\\\"\""]);
    assert_eq!(made.body["metadata"]["generation"], 1);

    let bad = world.patch("merge-patch+json", &format!("{WIDGETS}/w"), &json!({"spec": {"size": 0}})).await;
    assert_eq!(bad.code, 422);
    let message = "spec.size in body should be greater than or equal to 1";
    assert!(bad.body["message"].as_str().unwrap_or("").contains(message), "{}", bad.body["message"]);

    let status = json!({"status": {"any": {"thing": true}}, "spec": {"size": 9}});
    let set = world.patch("merge-patch+json", &format!("{WIDGETS}/w/status"), &status).await;
    assert_eq!((&set.body["spec"]["size"], &set.body["status"]["any"]["thing"]), (&json!(2), &json!(true)));
    assert_eq!(set.body["metadata"]["generation"], 1);

    let path = format!("{WIDGETS}/w?fieldManager=m&force=true");
    let applied = world.patch("apply-patch+yaml", &path, &widget(&json!({"size": 5}))).await;
    assert_eq!((applied.code, &applied.body["spec"]["size"]), (200, &json!(5)));

    assert_eq!(world.call("DELETE", &own, "", "").await.code, 200);
    until(&world, &own, |a| a.code == 404).await;
    until(&world, WIDGETS, |a| a.code == 404).await;
}
