use serde_json::{Value, json};

use crate::testing::{Bench, node, pod};

fn cluster() -> Bench {
    let zone = |zone: &str| json!({"zone": zone});
    Bench::new([
        node("a1", "8", &zone("a"), &json!({})),
        node("b1", "8", &zone("b"), &json!({})),
        node("c1", "8", &zone("c"), &json!({"taints": [{"key": "k", "effect": "NoSchedule"}]})),
        node("nowhere", "8", &Value::Null, &json!({})),
    ])
}

fn spread(action: &str, more: &Value) -> Value {
    let mut constraint = json!({
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": action,
        "labelSelector": {"matchLabels": {"app": "web"}},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        constraint[key] = value.clone();
    }
    json!({"topologySpreadConstraints": [constraint]})
}

fn web(name: &str, spec: &Value) -> std::sync::Arc<crate::pod_info::PodInfo> {
    pod(name, &json!({"app": "web"}), spec)
}

#[tokio::test]
async fn skew() {
    let mut bench = cluster();
    bench.cache.assume(web("there", &Value::Null), "a1");
    let hard = |more: Value| web("p", &spread("DoNotSchedule", &more));
    assert_eq!(bench.place(&hard(Value::Null)).await, Ok("b1".into()));
    bench.cache.assume(web("too", &Value::Null), "b1");
    // The tainted zone is empty, and counts unless taints are honored.
    let said = bench.place(&hard(Value::Null)).await.unwrap_err();
    assert!(said.contains("2 node(s) didn't match pod topology spread constraints."), "{said}");
    assert!(said.contains("1 node(s) didn't match pod topology spread constraints (missing required label)"), "{said}");
    assert!(bench.place(&hard(json!({"nodeTaintsPolicy": "Honor"}))).await.is_ok());
    assert!(bench.place(&hard(json!({"nodeTaintsPolicy": "Honor", "minDomains": 3}))).await.is_err());
}

#[tokio::test]
async fn preference() {
    let mut bench = cluster();
    bench.cache.assume(web("there", &Value::Null), "a1");
    bench.cache.remove_node("nowhere");
    let soft = web("p", &spread("ScheduleAnyway", &Value::Null));
    assert_eq!(bench.place(&soft).await, Ok("b1".into()));
}

#[tokio::test]
async fn keys_of_labels_make_groups() {
    let mut bench = cluster();
    bench.cache.assume(pod("old", &json!({"app": "web", "version": "1"}), &Value::Null), "a1");
    let spec = spread("DoNotSchedule", &json!({"matchLabelKeys": ["version"], "nodeTaintsPolicy": "Honor"}));
    let same = pod("same", &json!({"app": "web", "version": "1"}), &spec);
    assert_eq!(bench.place(&same).await, Ok("b1".into()));
    bench.cache.assume(pod("other", &json!({"app": "web", "version": "2"}), &Value::Null), "b1");
    assert_eq!(bench.place(&same).await, Ok("b1".into()), "another version does not count");
}
