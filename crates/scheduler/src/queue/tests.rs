use std::sync::Arc;
use std::time::Duration;

use api::k8s::core::v1::Pod;

use super::Queue;
use crate::events::{ClusterEvent, Subject, kind};
use crate::pod_info::PodInfo;

fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
    let mut pod = Pod::default();
    pod.metadata.name = Some(name.into());
    pod.metadata.uid = Some(name.into());
    pod.spec.get_or_insert_default().priority = Some(priority);
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn event() -> ClusterEvent {
    ClusterEvent { kinds: kind::NODE_ADD, subject: Subject::Other }
}

#[tokio::test(start_paused = true)]
async fn priority_then_age() {
    let queue = Queue::default();
    for (name, priority) in [("low", 0), ("first", 5), ("second", 5)] {
        queue.upsert(pod(name, priority), false, None, &|_, _, _| true);
    }
    for want in ["first", "second", "low"] {
        assert_eq!(queue.pop().await.info.uid, want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_taken_out_of_its_turn() {
    let queue = Queue::default();
    for (name, gated) in [("active", false), ("gated", true), ("parked", false), ("held", false)] {
        queue.upsert(pod(name, 0), gated, None, &|_, _, _| true);
    }
    let parked = queue.take_one("parked").unwrap();
    queue.reject(parked, 1, &|_, _, _| false);
    queue.hold("held");
    let taken = ["active", "gated", "parked", "held", "unknown"].map(|uid| queue.take_one(uid).is_some());
    assert_eq!(taken, [true, false, true, false, false]);
    assert!(queue.take_one("active").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_waits_for_its_event_and_its_back_off() {
    let queue = Queue::default();
    queue.upsert(pod("a", 0), false, None, &|_, _, _| true);
    let taken = queue.pop().await;
    queue.reject(taken, 1, &|_, _, _| true);
    queue.event(event(), &|_, _, _| false);
    assert_eq!(queue.counts(), (0, 0, 1, 0));
    queue.event(event(), &|_, by, _| by == 1);
    assert_eq!(queue.counts(), (0, 1, 0, 0));
    let start = rt::time::Instant::now();
    assert_eq!(queue.pop().await.attempts, 2);
    assert_eq!(start.elapsed(), Duration::ZERO, "nothing else was to be done");
}

#[tokio::test(start_paused = true)]
async fn an_event_during_the_decision_is_not_lost() {
    let queue = Queue::default();
    queue.upsert(pod("a", 0), false, None, &|_, _, _| true);
    let taken = queue.pop().await;
    queue.event(event(), &|_, _, _| true);
    queue.reject(taken, 1, &|_, _, _| true);
    assert_eq!(queue.counts(), (0, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn gated_pods_wait_for_a_change() {
    let queue = Queue::default();
    queue.upsert(pod("a", 0), true, None, &|_, _, _| true);
    queue.event(event(), &|_, _, _| true);
    assert!(queue.try_pop().is_none());
    queue.upsert(pod("a", 0), false, None, &|_, _, _| true);
    assert!(queue.try_pop().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_stale_pod_is_tried_again() {
    let queue = Queue::default();
    queue.upsert(pod("a", 0), false, None, &|_, _, _| true);
    let taken = queue.pop().await;
    queue.reject(taken, 1, &|_, _, _| false);
    let start = rt::time::Instant::now();
    queue.pop().await;
    assert_eq!(start.elapsed(), Duration::from_secs(300));
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_its_back_off() {
    let queue = Queue::default();
    queue.upsert(pod("a", 0), false, None, &|_, _, _| true);
    let taken = queue.pop().await;
    queue.reject(taken, 0, &|_, _, _| true);
    let start = rt::time::Instant::now();
    queue.pop().await;
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_held_pod_comes_back_when_released() {
    let queue = Queue::default();
    queue.upsert(pod("a", 0), false, None, &|_, _, _| true);
    let taken = queue.pop().await;
    queue.hold("a");
    queue.hold("a");
    queue.reject(taken, 1, &|_, _, _| true);
    queue.event(event(), &|_, _, _| true);
    assert!(queue.try_pop().is_none());
    queue.release("a", false);
    assert!(queue.try_pop().is_none());
    queue.release("a", false);
    assert!(queue.try_pop().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_its_own_helps_only_when_a_plugin_says_so() {
    let queue = Queue::default();
    queue.upsert(pod("a", 0), false, None, &|_, _, _| true);
    let taken = queue.pop().await;
    queue.reject(taken, 1, &|_, _, _| true);
    queue.upsert(pod("a", 0), false, None, &|_, _, _| true);
    queue.upsert(pod("a", 0), false, Some(event()), &|_, _, _| false);
    assert_eq!(queue.counts(), (0, 0, 1, 0));
    queue.upsert(pod("a", 0), false, Some(event()), &|_, _, _| true);
    assert_eq!(queue.counts(), (0, 1, 0, 0));
}
