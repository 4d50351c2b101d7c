use serde_json::json;

use super::*;

fn group(policy: &serde_json::Value) -> PodGroup {
    serde_json::from_value(json!({"metadata": {"name": "g", "namespace": "ns"}, "spec": {"schedulingPolicy": policy}}))
        .unwrap()
}

#[test]
fn who_may_come_and_who_may_go_on() {
    let (gang, basic) = (group(&json!({"gang": {"minCount": 3}})), group(&json!({"basic": {}})));
    for (group, pods, kept_out, waits) in [
        (Some(&gang), 2, true, true),
        (Some(&gang), 3, false, false),
        (Some(&gang), 4, false, false),
        (Some(&basic), 1, false, false),
        (None, 5, true, false),
    ] {
        assert_eq!(kept_out_by("ns/g", group, pods).is_some(), kept_out, "{group:?} {pods}");
        assert_eq!(group.is_some_and(|group| is_incomplete(group, pods)), waits, "{group:?} {pods}");
    }
    let unknown = kept_out_by("ns/g", None, 5).map(|status| status.message());
    assert_eq!(unknown.as_deref(), Some("waiting for pods's pod group \"g\" to appear in scheduling queue"));
}

#[tokio::test]
async fn a_wait_can_end_before_it_is_waited_for() {
    let waiting = Waiting::default();
    let wait = waiting.begin("a", LONGEST);
    assert!(waiting.end("a", Ok(())));
    assert_eq!(waiting.wait("a", wait).await, Ok(()));
    assert!(!waiting.end("a", Ok(())));
    let short = waiting.begin("b", Duration::from_millis(1));
    assert!(waiting.wait("b", short).await.unwrap_err().contains("timeout"));
}
