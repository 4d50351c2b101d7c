use serde_json::{Value, json};

use super::enough;
use crate::testing::{Bench, node, pod, requesting};

fn cluster() -> Bench {
    let tainted = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    Bench::new([
        node("small", "1", &Value::Null, &json!({})),
        node("big", "8", &Value::Null, &json!({})),
        node("tainted", "8", &Value::Null, &tainted),
        node("cordoned", "8", &Value::Null, &json!({"unschedulable": true})),
    ])
}

async fn place(spec: Value) -> Result<String, String> {
    cluster().place(&pod("p", &Value::Null, &spec)).await
}

#[tokio::test]
async fn each_plugin_has_its_say() {
    assert_eq!(place(requesting("2")).await, Ok("big".into()));
    assert_eq!(place(json!({"nodeSelector": {"kubernetes.io/hostname": "small"}})).await, Ok("small".into()));
    assert_eq!(place(json!({"nodeName": "small"})).await, Ok("small".into()));
    let tolerant = json!({
        "tolerations": [{"operator": "Exists", "key": "k"}],
        "nodeSelector": {"kubernetes.io/hostname": "tainted"},
    });
    assert_eq!(place(tolerant).await, Ok("tainted".into()));
    let preferring = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["small"]},
        ]}},
    ]}}});
    assert_eq!(place(preferring).await, Ok("small".into()));
}

#[tokio::test]
async fn the_message_counts_reasons() {
    assert_eq!(
        place(requesting("9")).await,
        Err("0/4 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu. no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.".into())
    );
    let named = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["cordoned"]}]}],
    }}}});
    assert_eq!(
        place(named).await,
        Err("0/4 nodes are available: 1 node(s) were unschedulable, 3 node(s) didn't satisfy plugin(s) [NodeAffinity]. no new claims to deallocate, preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.".into())
    );
    let claims = json!({"resourceClaims": [{"name": "gpu"}]});
    let said = place(claims).await.unwrap_err();
    assert!(said.contains("none of the supported fields are set"), "{said}");
}

#[tokio::test]
async fn assumed_pods_count() {
    let mut bench = cluster();
    for at in 0..4 {
        let pod = pod(&format!("p{at}"), &Value::Null, &requesting("2"));
        let node = bench.place(&pod).await.unwrap();
        assert_eq!(node, "big");
        bench.cache.assume(pod, &node);
    }
    let next = pod("q", &Value::Null, &requesting("2"));
    assert!(bench.place(&next).await.is_err());
    bench.cache.remove_pod("p0");
    assert!(bench.place(&next).await.is_ok());
}

#[tokio::test]
async fn host_ports_exclude_each_other() {
    let with_port = |name: &str, ip: &str| {
        let spec = json!({
            "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": ip}]}],
            "nodeSelector": {"kubernetes.io/hostname": "big"},
        });
        pod(name, &Value::Null, &spec)
    };
    let mut bench = cluster();
    bench.cache.assume(with_port("a", "127.0.0.1"), "big");
    assert!(bench.place(&with_port("b", "127.0.0.2")).await.is_ok());
    assert!(bench.place(&with_port("c", "")).await.is_err());
}

fn with_priority(name: &str, cpu: &str, priority: i32) -> std::sync::Arc<crate::pod_info::PodInfo> {
    let mut spec = requesting(cpu);
    spec["priority"] = priority.into();
    pod(name, &Value::Null, &spec)
}

#[tokio::test]
async fn preemption_takes_the_lowest() {
    let mut bench = cluster();
    for (name, cpu, priority, node) in [("low", "1", 1, "small"), ("mid", "4", 5, "big"), ("lower", "4", 0, "big")] {
        bench.cache.assume(with_priority(name, cpu, priority), node);
    }
    let undecided = bench.decide(&with_priority("high", "3", 9)).await.err().unwrap();
    assert_eq!(undecided.nominate.as_deref(), Some("big"));
    // What is nominated keeps its place from equals and lower ones, once the victim is gone.
    bench.cache.remove_pod("lower");
    bench.engine.nominator.nominate(&with_priority("high", "3", 9), "big");
    assert!(bench.place(&with_priority("other", "2", 9)).await.is_err());
    assert_eq!(bench.place(&with_priority("other", "2", 10)).await, Ok("big".into()));
    assert_eq!(bench.place(&with_priority("high", "3", 9)).await, Ok("big".into()));
}

#[tokio::test]
async fn a_pod_that_may_not_preempt() {
    let mut bench = cluster();
    bench.cache.assume(with_priority("low", "8", 0), "big");
    let mut spec = requesting("3");
    spec["priority"] = 9.into();
    spec["preemptionPolicy"] = "Never".into();
    let undecided = bench.decide(&pod("p", &Value::Null, &spec)).await.err().unwrap();
    assert_eq!(undecided.nominate, None);
    let message = undecided.failure.message();
    assert!(message.ends_with("preemption: not eligible due to preemptionPolicy=Never."), "{message}");
}

#[test]
fn how_many_nodes_are_enough() {
    for (nodes, percentage, want) in [
        (50, None, 50),
        (100, None, 100),
        (1000, None, 420),
        (5000, None, 500),
        (5000, Some(0), 500),
        (6000, None, 300),
        (5000, Some(40), 2000),
        (200, Some(1), 100),
    ] {
        assert_eq!(enough(nodes, percentage), want, "{nodes} {percentage:?}");
    }
}
