use std::sync::Arc;

use api::k8s::core::v1::{Pod, Service};
use api::k8s::discovery::v1::EndpointSlice;
use serde_json::json;

use super::{Plan, plan};

fn service() -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"l": "1"}},
        "spec": {"selector": {"a": "b"}, "ipFamilies": ["IPv4"], "clusterIP": "10.0.0.9",
                 "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    }))
    .unwrap()
}

fn pod(n: usize, ready: bool) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": format!("p{n}"), "namespace": "ns", "uid": format!("u{n:04}"), "labels": {"a": "b"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.1.{}.{}", n / 250, n % 250)}],
                   "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn run(pods: &[Arc<Pod>], existing: &[EndpointSlice]) -> Plan {
    let existing = existing.iter().cloned().map(Arc::new).collect();
    plan(&service(), pods, existing, &|_| Some("z".into()))
}

fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
    slices.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).collect()
}

#[test]
fn from_nothing_to_slices_of_a_hundred() {
    let pods: Vec<_> = (0..150).map(|n| pod(n, true)).collect();
    let plan = run(&pods, &[]);
    assert_eq!(sizes(&plan.create), [100, 50]);
    let slice = &plan.create[0];
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
    let first = &slice.endpoints.as_ref().unwrap()[0];
    assert_eq!(first.zone.as_deref(), Some("z"));
    assert_eq!(first.conditions.as_ref().unwrap().ready, Some(true));
}

#[test]
fn nothing_changes_when_nothing_changed() {
    let pods: Vec<_> = (0..3).map(|n| pod(n, true)).collect();
    let made = run(&pods, &[]).create;
    let again = run(&pods, &made);
    assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
}

#[test]
fn one_change_writes_one_slice() {
    let mut pods: Vec<_> = (0..150).map(|n| pod(n, true)).collect();
    let made = run(&pods, &[]).create;
    pods[3] = pod(3, false);
    pods.push(pod(200, true));
    let plan = run(&pods, &made);
    assert_eq!((plan.create.len(), plan.delete.len()), (0, 0));
    assert_eq!(sizes(&plan.update), [100, 51], "the full slice has no room for the new endpoint");
}

#[test]
fn the_last_endpoint_leaves_an_empty_slice() {
    let made = run(&[pod(1, true)], &[]).create;
    let plan = run(&[], &made);
    assert_eq!(sizes(&plan.update), [0]);
    assert!(plan.create.is_empty());
    assert_eq!(sizes(&run(&[], &[]).create), [0]);
}
