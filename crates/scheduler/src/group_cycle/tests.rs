use serde_json::{Value, json};

use super::*;

fn group(conditions: &Value) -> PodGroup {
    serde_json::from_value(json!({
        "metadata": {"name": "g", "namespace": "ns", "generation": 2},
        "spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}, "status": {"conditions": conditions},
    }))
    .unwrap()
}

fn said(status: &str, reason: &str, message: &str) -> Value {
    json!([{
        "type": CONDITION, "status": status, "reason": reason, "message": message, "observedGeneration": 2,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }])
}

#[test]
fn conditions_of_groups() {
    let long_ago = "2026-01-01T00:00:00Z".parse().map(Time).unwrap();
    for (before, verdict, want) in [
        (json!([]), Verdict::Scheduled, Some(("True", false))),
        (json!([]), Verdict::Unschedulable, Some(("False", false))),
        (said("False", "Unschedulable", UNSCHEDULABLE), Verdict::Unschedulable, None),
        (said("False", "Unschedulable", UNSCHEDULABLE), Verdict::Preempting, Some(("False", true))),
        (said("False", "Unschedulable", UNSCHEDULABLE), Verdict::Scheduled, Some(("True", false))),
        // What was scheduled stays scheduled.
        (said("True", "Scheduled", ""), Verdict::Unschedulable, None),
        (said("True", "Scheduled", ""), Verdict::Failed("x".into()), None),
        (said("True", "Scheduled", ""), Verdict::Scheduled, None),
    ] {
        let (status, reason, message) = verdict.condition();
        let made = condition(&group(&before), status, reason, message);
        let told = made.as_ref().map(|c| (c.status.as_str(), c.last_transition_time == long_ago));
        assert_eq!(told, want, "{before} {reason}");
    }
}

#[test]
fn what_pods_are_told() {
    for (verdict, reason, message) in [
        (
            Verdict::Unschedulable,
            "Unschedulable",
            "pod group is unschedulable, waiting for minCount pods from a gang to be scheduled",
        ),
        (Verdict::Preempting, "Unschedulable", PREEMPTING),
        (Verdict::Failed("it broke".into()), "SchedulerError", "it broke"),
    ] {
        let failure = without_node(&verdict);
        assert_eq!((failure.reason(), failure.message().as_str(), failure.rejected_by()), (reason, message, 0));
    }
}
