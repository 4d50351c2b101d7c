//! Cases of upstream's `replica_calculator_test.go`.

use serde_json::json;

use super::*;

fn pod(name: &str, phase: &str, ready: &str, started: i64) -> Arc<Pod> {
    let at = |seconds| Timestamp::from_second(seconds).unwrap().to_string();
    Arc::new(
        api::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {
                "phase": phase, "startTime": at(started),
                "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": at(started)}],
            },
        }))
        .unwrap(),
    )
}

fn basis(pods: &[Arc<Pod>], current: i32) -> Basis<'_> {
    Basis {
        pods,
        current,
        tolerance: Tolerance { down: 0.1, up: 0.1 },
        now: Timestamp::from_second(10_000).unwrap(),
        cpu_initialization: Duration::from_secs(120),
        initial_readiness: Duration::from_secs(10),
    }
}

fn readings(values: &[i64]) -> Readings {
    let time = Timestamp::from_second(9_990).unwrap();
    let reading = |value| Reading { value, time, window: Duration::from_secs(15) };
    values.iter().enumerate().map(|(at, value)| (format!("p{at}"), reading(*value))).collect()
}

#[test]
fn utilization_of_requests() {
    let running =
        |count: usize| (0..count).map(|at| pod(&format!("p{at}"), "Running", "True", 100)).collect::<Vec<_>>();
    for (pods, values, target, want, why) in [
        (running(3), vec![300, 500, 700], 30, 5, "scale up"),
        (running(3), vec![1010, 1030, 1020], 100, 3, "within tolerance"),
        (running(5), vec![100, 300, 500, 250, 250], 50, 3, "scale down"),
        (running(2), vec![1000], 100, 2, "missing pods hold on the tolerance"),
        (running(4), vec![400, 950, 999], 100, 4, "one missing counts as all of its request"),
        (running(3), vec![10, 10, 10], 300, 1, "far down"),
    ] {
        let current = i32::try_from(pods.len()).unwrap();
        let found = by_utilization(&basis(&pods, current), readings(&values), target, "cpu", "").unwrap();
        assert_eq!(found.0, want, "{why}");
    }
}

#[test]
fn pods_that_are_not_ready_do_not_drive() {
    let mut pods = vec![pod("p0", "Running", "True", 100), pod("p1", "Running", "True", 100)];
    pods.push(pod("p2", "Running", "False", 9_995));
    pods.push(pod("p3", "Pending", "False", 9_995));
    // Two are busy, the others count as idle when scaling up: (900 + 900) / 4 = 45 % of a target of 30 %.
    let found = by_utilization(&basis(&pods, 4), readings(&[900, 900, 5000]), 30, "cpu", "").unwrap();
    assert_eq!(found.0, 6);
    let error = by_utilization(&basis(&pods[2..], 2), readings(&[]), 30, "cpu", "").unwrap_err();
    assert_eq!(error, "did not receive metrics for targeted pods (pods might be unready)");
    let error = by_utilization(&basis(&pods, 4), readings(&[900, 900]), 30, "memory", "").unwrap_err();
    assert_eq!(error, "missing request for memory in container c of Pod p0");
}

#[test]
fn values_of_the_whole() {
    let pods = vec![pod("p0", "Running", "True", 100), pod("p1", "Running", "True", 100)];
    assert_eq!(by_value(&basis(&pods, 2), 30_000, 15_000).unwrap(), 4);
    assert_eq!(by_value(&basis(&pods, 0), 30_000, 15_000).unwrap(), 2, "from zero");
    assert_eq!(by_share(2, 30_000, 10_000, Tolerance { down: 0.1, up: 0.1 }), (3, 15_000));
    assert_eq!(by_average(&basis(&pods, 2), readings(&[20_000, 10_000]), 5_000, "").unwrap(), (6, 15_000));
}
