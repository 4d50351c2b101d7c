use serde_json::{Value, json};

use super::*;

/// A container that asks for GPUs.
fn c(name: &str, gpus: i64) -> Value {
    json!({"name": name, "resources": {"requests": {"cpu": "1", "example.com/gpu": gpus.to_string()}}})
}

fn sidecar(name: &str, gpus: i64) -> Value {
    let mut container = c(name, gpus);
    container["restartPolicy"] = "Always".into();
    container
}

fn info(init: &[Value], containers: &[Value]) -> std::sync::Arc<PodInfo> {
    crate::testing::pod("p", &Value::Null, &json!({"initContainers": init, "containers": containers}))
}

fn classes() -> DeviceClasses {
    let class = json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}});
    DeviceClasses::fixed([serde_json::from_value(class).unwrap()])
}

fn with_room(resource: Option<(&str, &str)>) -> NodeInfo {
    let mut node = (*crate::testing::node("n", "4", &Value::Null, &json!({}))).clone();
    let room = node.status.get_or_insert_default().allocatable.get_or_insert_default();
    if let Some((name, amount)) = resource {
        room.insert(name.to_owned(), api::prelude::Quantity(amount.to_owned()));
    }
    NodeInfo::new(std::sync::Arc::new(node))
}

fn find(pod: &PodInfo, node: &NodeInfo) -> Result<Option<OnNode>, Status> {
    let special = Special { claim: Arc::new(template(&pod.pod)), stale: false };
    on_node(&special, pod, node, &classes())
}

/// `request*count ...` and `container>request ...`.
fn told(found: &OnNode) -> (String, String) {
    let requests = super::super::request::requests(&found.claim).iter();
    let requests: Vec<String> =
        requests.map(|r| format!("{}*{}", r.name, r.exactly.as_ref().and_then(|e| e.count).unwrap_or(0))).collect();
    let mappings = found.mappings.iter().map(|m| format!("{}>{}", m.container_name, m.request_name));
    (requests.join(" "), mappings.collect::<Vec<_>>().join(" "))
}

#[test]
fn requests_and_who_uses_them() {
    for (init, containers, requests, mappings) in [
        (vec![], vec![c("a", 2)], "container-0-request-1*2", "a>container-0-request-1"),
        (
            vec![],
            vec![c("a", 1), c("b", 3)],
            "container-0-request-1*1 container-1-request-1*3",
            "a>container-0-request-1 b>container-1-request-1",
        ),
        // What passes uses what others ask for later, and what is missing beside.
        (
            vec![c("i", 2)],
            vec![c("a", 2)],
            "container-1-request-1*2",
            "a>container-1-request-1 i>container-1-request-1",
        ),
        (
            vec![c("i", 3)],
            vec![c("a", 2)],
            "container-0-request-1*1 container-1-request-1*2",
            "a>container-1-request-1 i>container-1-request-1 i>container-0-request-1",
        ),
        // Those that pass share the largest.
        (
            vec![c("i", 1), c("j", 4)],
            vec![json!({"name": "a"})],
            "container-1-request-1*4",
            "i>container-1-request-1 j>container-1-request-1",
        ),
        // A sidecar before it keeps its own.
        (
            vec![sidecar("s", 2), c("i", 2)],
            vec![json!({"name": "a"})],
            "container-0-request-1*2 container-1-request-1*2",
            "s>container-0-request-1 i>container-1-request-1",
        ),
    ] {
        let pod = info(&init, &containers);
        let found = find(&pod, &with_room(None)).unwrap().unwrap();
        assert_eq!(told(&found), (requests.to_owned(), mappings.to_owned()), "{init:?} {containers:?}");
        let claim = &found.claim;
        assert!(is_made_for(claim, &pod.pod));
        assert_eq!(claim.metadata.generate_name.as_deref(), Some("p-extended-resources-"));
    }
}

#[test]
fn nodes_that_have_it_and_claims_that_are_left() {
    let pod = info(&[], &[c("a", 1)]);
    assert!(find(&pod, &with_room(Some(("example.com/gpu", "1")))).unwrap().is_none());
    // None left on a node that once had some: devices may stand for them.
    assert!(find(&pod, &with_room(Some(("example.com/gpu", "0")))).unwrap().is_some());
    let nic = json!({"name": "a", "resources": {"requests": {"example.com/gpu": "1", "example.com/nic": "1"}}});
    let both = info(&[], &[nic]);
    assert_eq!(find(&both, &with_room(None)).unwrap_err().message(), "cannot fit resource");
    assert!(find(&both, &with_room(Some(("example.com/nic", "1")))).unwrap().is_some());
    let left = Special { claim: Arc::new(template(&pod.pod)), stale: true };
    let left = on_node(&left, &pod, &with_room(None), &classes());
    assert_eq!(left.unwrap_err().message(), "cannot schedule extended resource claim");
    assert!(classes().asked_by(&pod) && !DeviceClasses::default().asked_by(&pod));
}
