use std::sync::Arc;

use api::k8s::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::Cycle;
use crate::cache::Cache;
use crate::plugins::default_plugins;
use crate::pod_info::PodInfo;

fn node(name: &str, cpu: &str, spec: Value) -> Arc<Node> {
    let value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "10"}},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    let mut whole = json!({"containers": [{"name": "c"}]});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": whole,
    }))
    .unwrap();
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn requesting(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

fn cluster() -> Cache {
    let mut cache = Cache::default();
    cache.upsert_node(node("small", "1", json!({})));
    cache.upsert_node(node("big", "8", json!({})));
    cache.upsert_node(node("tainted", "8", json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]})));
    cache.upsert_node(node("cordoned", "8", json!({"unschedulable": true})));
    cache
}

fn decide(spec: Value) -> Result<String, String> {
    Cycle::new(default_plugins()).decide(&pod("p", spec), &cluster()).map_err(|e| e.message)
}

#[test]
fn each_plugin_has_its_say() {
    assert_eq!(decide(requesting("2")), Ok("big".into()));
    assert_eq!(decide(json!({"nodeSelector": {"kubernetes.io/hostname": "small"}})), Ok("small".into()));
    assert_eq!(decide(json!({"nodeName": "small"})), Ok("small".into()));
    let tolerant = json!({
        "tolerations": [{"operator": "Exists", "key": "k"}],
        "nodeSelector": {"kubernetes.io/hostname": "tainted"},
    });
    assert_eq!(decide(tolerant), Ok("tainted".into()));
    let preferring = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["small"]},
        ]}},
    ]}}});
    assert_eq!(decide(preferring), Ok("small".into()));
}

#[test]
fn the_message_counts_reasons() {
    assert_eq!(
        decide(requesting("9")),
        Err("0/4 nodes are available: 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable, 2 Insufficient cpu.".into())
    );
}

#[test]
fn assumed_pods_count() {
    let mut cache = cluster();
    let mut cycle = Cycle::new(default_plugins());
    for _ in 0..4 {
        cache.remove_pod("x");
    }
    for at in 0..4 {
        let mut spec = requesting("2");
        spec["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8000 + at}]);
        let pod = pod(&format!("p{at}"), spec);
        let node = cycle.decide(&pod, &cache).unwrap();
        assert_eq!(node, "big");
        cache.assume(pod, &node);
    }
    assert!(cycle.decide(&pod("q", requesting("2")), &cache).is_err());
    cache.remove_pod("p0");
    assert!(cycle.decide(&pod("q", requesting("2")), &cache).is_ok());
}

#[test]
fn host_ports_exclude_each_other() {
    let with_port = |name: &str, ip: &str| {
        pod(
            name,
            json!({
                "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]}],
                "nodeSelector": {"kubernetes.io/hostname": "big"},
            }),
        )
    };
    let mut cache = cluster();
    let mut cycle = Cycle::new(default_plugins());
    cache.assume(with_port("a", "127.0.0.1"), "big");
    assert!(cycle.decide(&with_port("b", "127.0.0.2"), &cache).is_ok());
    assert!(cycle.decide(&with_port("c", ""), &cache).is_err());
}
