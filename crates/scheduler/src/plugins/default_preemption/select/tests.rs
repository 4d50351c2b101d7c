use std::sync::Arc;

use serde_json::json;

use super::{Budget, Candidate, by_importance, choose, split};
use crate::pod_info::PodInfo;

fn pod(name: &str, priority: i32, second: u32) -> Arc<PodInfo> {
    let pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "a"}},
        "spec": {"containers": [], "priority": priority},
        "status": {"startTime": format!("2026-01-01T00:00:{second:02}Z")},
    }));
    Arc::new(PodInfo::new(Arc::new(pod.unwrap())))
}

fn names(pods: &[Arc<PodInfo>]) -> Vec<&str> {
    pods.iter().map(|p| p.uid.as_str()).collect()
}

#[test]
fn importance() {
    let mut pods = vec![pod("young", 1, 9), pod("low", 0, 0), pod("high", 5, 9), pod("old", 1, 1)];
    by_importance(&mut pods);
    assert_eq!(names(&pods), ["high", "old", "young", "low"]);
}

#[test]
fn budgets_are_used_up_in_order() {
    let budget = serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "b"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}},
        "status": {"disruptionsAllowed": 1, "disruptedPods": {"gone": null}},
    }));
    let Ok(budget) = budget else { return };
    let pods = vec![pod("gone", 0, 0), pod("first", 0, 0), pod("second", 0, 0)];
    let (violating, others) = split(pods, &[Budget::new(&budget)]);
    assert_eq!((names(&violating), names(&others)), (vec!["second"], vec!["gone", "first"]));
}

#[test]
fn the_best_candidate() {
    let candidate =
        |node: &str, violations: i64, victims: Vec<Arc<PodInfo>>| Candidate { node: node.into(), victims, violations };
    let mut all = vec![candidate("violates", 1, vec![pod("a", 0, 0)])];
    for (node, victims) in [
        ("high", vec![pod("a", 9, 0)]),
        ("sum", vec![pod("a", 5, 0), pod("b", 5, 0)]),
        ("old", vec![pod("a", 5, 1)]),
        ("young", vec![pod("a", 5, 2)]),
    ] {
        all.push(candidate(node, 0, victims));
    }
    for want in ["young", "old", "sum", "high", "violates"] {
        let best = choose(all.clone()).unwrap();
        assert_eq!(&*best.node, want);
        all.retain(|c| c.node != best.node);
    }
}
