use super::*;
use crate::Fixed;
use api::metav1::Time;

fn pod(policy: &str, phase: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some("u".into());
    pod.spec.get_or_insert_default().restart_policy = Some(policy.into());
    pod.status.get_or_insert_default().phase = Some(phase.into());
    pod
}

fn known(containers: Containers) -> Local {
    Local { uid: "u".into(), address: "10.0.0.1".into(), restarts: 0, containers }
}

#[test]
fn a_pod_starts_when_it_is_due_and_is_reported() {
    let (now, fixed) = (Instant::now(), Fixed::default());
    let pod = pod("Always", "Pending");
    let mut local = adopt(&pod, &fixed, now, || "10.0.0.1".into());
    assert_eq!(step(&pod, &mut local, &fixed, now), Step::Wait(Some(now + fixed.start)));
    assert_eq!(step(&pod, &mut local, &fixed, now + fixed.start), Step::Report);
    assert!(matches!(local.containers, Containers::Running { exit: None, .. }));
}

#[test]
fn exits_follow_the_restart_policy() {
    let (now, fixed) = (Instant::now(), Fixed::default());
    for (policy, code, ended) in
        [("Never", 1, true), ("Never", 0, true), ("OnFailure", 0, true), ("OnFailure", 3, false), ("Always", 0, false)]
    {
        let mut local = known(Containers::Running { since: Timestamp::UNIX_EPOCH, exit: Some((now, code)) });
        assert_eq!(step(&pod(policy, "Running"), &mut local, &fixed, now), Step::Report, "{policy} {code}");
        assert_eq!(matches!(local.containers, Containers::Ended { .. }), ended, "{policy} {code}");
        assert_eq!(local.restarts, i32::from(!ended), "{policy} {code}");
    }
}

#[test]
fn deletion_stops_reports_and_removes() {
    let (now, fixed) = (Instant::now(), Fixed { stop: Duration::from_secs(60), ..Fixed::default() });
    let mut pod = pod("Always", "Running");
    let mut local = known(Containers::Running { since: Timestamp::UNIX_EPOCH, exit: None });
    let status = pod.status.get_or_insert_default();
    status.pod_ip = Some("10.0.0.1".into());
    status.conditions = Some(vec![api::k8s::core::v1::PodCondition {
        type_: "Ready".into(),
        status: "True".into(),
        ..Default::default()
    }]);
    assert_eq!(step(&pod, &mut local, &fixed, now), Step::Wait(None));
    pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    pod.metadata.deletion_grace_period_seconds = Some(30);
    let due = now + Duration::from_secs(30);
    assert_eq!(step(&pod, &mut local, &fixed, now), Step::Wait(Some(due)), "cut to the grace period");
    assert_eq!(step(&pod, &mut local, &fixed, due), Step::Report);
    pod.status.get_or_insert_default().phase = Some("Succeeded".into());
    assert_eq!(step(&pod, &mut local, &fixed, due), Step::Remove);
    pod.metadata.deletion_grace_period_seconds = Some(0);
    assert_eq!(step(&pod, &mut local, &fixed, due), Step::Wait(None), "finalizers hold it");
}
