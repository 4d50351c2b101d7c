use serde_json::{Value, json};

use crate::testing::{Bench, node, pod};

fn cluster() -> Bench {
    let zone = |zone: &str| json!({"zone": zone});
    Bench::new([
        node("a1", "8", &zone("a"), &json!({})),
        node("a2", "8", &zone("a"), &json!({})),
        node("b1", "8", &zone("b"), &json!({})),
    ])
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

fn required(kind: &str, app: &str, key: &str) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term(app, key)]}}})
}

#[tokio::test]
async fn near_and_apart() {
    let mut bench = cluster();
    bench.cache.assume(pod("db", &json!({"app": "db"}), &json!({})), "b1");
    let near = pod("near", &json!({"app": "web"}), &required("podAffinity", "db", "zone"));
    assert_eq!(bench.place(&near).await, Ok("b1".into()));
    let apart = pod("apart", &json!({"app": "web"}), &required("podAntiAffinity", "db", "zone"));
    assert!(bench.place(&apart).await.unwrap().starts_with('a'));
    let nowhere = pod("nowhere", &json!({"app": "web"}), &required("podAffinity", "cache", "zone"));
    let said = bench.place(&nowhere).await.unwrap_err();
    assert!(said.contains("3 node(s) didn't match pod affinity rules"), "{said}");
}

#[tokio::test]
async fn the_first_of_a_group_goes_anywhere() {
    let mut bench = cluster();
    let first = pod("first", &json!({"app": "db"}), &required("podAffinity", "db", "zone"));
    let node = bench.place(&first).await.unwrap();
    bench.cache.assume(first, &node);
    let second = pod("second", &json!({"app": "db"}), &required("podAffinity", "db", "kubernetes.io/hostname"));
    assert_eq!(bench.place(&second).await, Ok(node));
}

#[tokio::test]
async fn anti_affinity_is_symmetric() {
    let mut bench = cluster();
    let loner = pod("loner", &json!({"app": "loner"}), &required("podAntiAffinity", "web", "zone"));
    bench.cache.assume(loner, "a1");
    let web = pod("web", &json!({"app": "web"}), &Value::Null);
    assert_eq!(bench.place(&web).await, Ok("b1".into()));
    bench.cache.remove_node("b1");
    let said = bench.place(&web).await.unwrap_err();
    assert!(said.contains("2 node(s) didn't satisfy existing pods anti-affinity rules"), "{said}");
}

#[tokio::test]
async fn preferences_of_both_sides() {
    let preferred = |kind: &str| {
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": term("web", "zone")},
        ]}}})
    };
    let mut bench = cluster();
    bench.cache.assume(pod("liked", &json!({"app": "db"}), &preferred("podAffinity")), "b1");
    let web = pod("web", &json!({"app": "web"}), &Value::Null);
    assert_eq!(bench.place(&web).await, Ok("b1".into()));
    bench.cache.remove_pod("liked");
    bench.cache.assume(pod("disliked", &json!({"app": "db"}), &preferred("podAntiAffinity")), "b1");
    assert!(bench.place(&web).await.unwrap().starts_with('a'));
}
