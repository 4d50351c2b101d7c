use std::sync::Arc;

use api::k8s::apps::v1::ReplicaSet;
use api::k8s::core::v1::Pod;
use rt::time::Timestamp;
use serde_json::json;

use super::{plan, status};

fn pod(name: &str, node: &str, phase: &str, ready: bool, created: i64) -> Arc<Pod> {
    let at = Timestamp::from_second(created).unwrap().to_string();
    let value = json!({
        "metadata": {"name": name, "namespace": "ns", "creationTimestamp": at, "labels": {"a": "b"}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase, "conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": at},
        ]},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

#[test]
fn the_least_useful_pods_go_first() {
    let pods = vec![
        pod("old", "n1", "Running", true, 100),
        pod("young", "n2", "Running", true, 200),
        pod("pending", "n1", "Pending", false, 50),
        pod("unscheduled", "", "Pending", false, 10),
        pod("doubled", "n1", "Running", true, 100),
    ];
    let related = pods.clone();
    let names = |n: usize| -> Vec<String> {
        let plan = plan(n, pods.clone(), &related);
        plan.delete.iter().map(|p| p.metadata.name.clone().unwrap()).collect()
    };
    assert_eq!(names(4), ["unscheduled"]);
    assert_eq!(names(3), ["unscheduled", "pending"]);
    assert_eq!(names(1), ["unscheduled", "pending", "old", "doubled"], "n1 is doubled up, n2 is not");
    assert_eq!(plan(7, pods.clone(), &related).create, 2);
}

#[test]
fn status_counts_by_readiness_and_time() {
    let owner: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": "x", "namespace": "ns", "generation": 3},
        "spec": {"replicas": 2, "minReadySeconds": 10, "selector": {}, "template": {"metadata": {"labels": {"a": "b"}}}},
    }))
    .unwrap();
    let pods = [pod("a", "n", "Running", true, 100), pod("b", "n", "Running", true, 108)];
    let now = Timestamp::from_second(112).unwrap();
    let (status, wait) = status(&owner, &pods, None, now);
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, Some(2), Some(1)));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(wait.unwrap().as_secs(), 6);
}
