use serde_json::{Value, json};

use super::Cache;
use crate::snapshot::Snapshot;
use crate::testing::{node, pod, requesting};

#[test]
fn a_snapshot_takes_over_what_changed() {
    let mut cache = Cache::default();
    let mut snapshot = Snapshot::default();
    for name in ["a", "b", "c"] {
        cache.upsert_node(node(name, "4", &Value::Null, &json!({})));
    }
    cache.refresh(&mut snapshot);
    let before = snapshot.clone();
    cache.assume(pod("p", &Value::Null, &requesting("1")), "b");
    assert_eq!(snapshot.node("b").unwrap().pods.len(), 0, "not before it is told");
    cache.refresh(&mut snapshot);
    assert_eq!(snapshot.node("b").unwrap().requested.milli_cpu, 1000);
    for name in ["a", "c"] {
        let shared = std::sync::Arc::ptr_eq(snapshot.node(name).unwrap(), before.node(name).unwrap());
        assert!(shared, "{name} did not change");
    }
    cache.remove_node("a");
    cache.refresh(&mut snapshot);
    assert_eq!((snapshot.nodes().len(), snapshot.place("a")), (2, None));
    cache.remove_pod("p");
    cache.refresh(&mut snapshot);
    assert_eq!(snapshot.node("b").unwrap().requested.milli_cpu, 0);
}

#[test]
fn a_node_that_comes_back_has_its_pods() {
    let mut cache = Cache::default();
    cache.assume(pod("early", &Value::Null, &requesting("1")), "a");
    cache.upsert_node(node("a", "4", &Value::Null, &json!({})));
    assert_eq!(cache.node("a").unwrap().pods.len(), 1);
    cache.remove_node("a");
    assert!(cache.is_placed("early"));
    cache.upsert_node(node("a", "4", &Value::Null, &json!({})));
    assert_eq!(cache.node("a").unwrap().requested.milli_cpu, 1000);
    assert_eq!(cache.counts(), (1, 1));
}

#[test]
fn what_is_bound_is_not_forgotten() {
    let mut cache = Cache::default();
    cache.upsert_node(node("a", "4", &Value::Null, &json!({})));
    cache.assume(pod("assumed", &Value::Null, &requesting("1")), "a");
    let mut spec = requesting("1");
    spec["nodeName"] = "a".into();
    cache.upsert_pod(&pod("bound", &Value::Null, &spec).pod);
    assert!(cache.forget("assumed").is_some());
    assert!(cache.forget("bound").is_none());
    assert_eq!(cache.node("a").unwrap().requested.milli_cpu, 1000);
}
