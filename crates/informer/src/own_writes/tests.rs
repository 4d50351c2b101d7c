//! Caches are fed by hand here, as a watch would.

use std::sync::Arc;

use api::prelude::{Node, Pod};
use client::WatchEvent;
use parking_lot::Mutex;

use super::OwnWrites;
use crate::informer::{Informer, Scope};

struct Fixture {
    pods: Informer<Pod>,
    writes: OwnWrites,
    woken: Arc<Mutex<Vec<String>>>,
}

fn pod(name: &str, version: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.name = Some(name.into());
    pod.metadata.uid = Some(format!("uid of {name}"));
    pod.metadata.resource_version = Some(version.into());
    pod
}

fn deleting(name: &str, version: &str) -> Pod {
    let mut pod = pod(name, version);
    pod.metadata.finalizers = Some(vec!["held".into()]);
    pod
}

fn held(pod: &Pod) -> bool {
    pod.metadata.finalizers.is_some()
}

impl Fixture {
    fn new() -> Self {
        let pods = Informer::<Pod>::new(Scope::default(), None);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let tell = woken.clone();
        let writes = OwnWrites::new(None, move |key| tell.lock().push(key)).over(&pods);
        Self { pods, writes, woken }
    }

    fn event(&self, event: WatchEvent<Pod>) {
        self.pods.take(event, &mut String::new());
    }

    fn woken(&self) -> Vec<String> {
        std::mem::take(&mut self.woken.lock())
    }
}

#[test]
fn waits_until_the_cache_has_come_to_the_last_write() {
    let f = Fixture::new();
    assert!(f.writes.wait("a").is_none(), "nothing was written");
    f.writes.note("a", &pod("a-1", "7"));
    f.writes.note("a", &pod("a-2", "10"));
    f.writes.note("a", &pod("a-3", "9"));
    assert!(f.writes.wait("a").is_some() && f.writes.wait("b").is_none());
    f.event(WatchEvent::Added(pod("a-1", "7")));
    assert!(f.woken().is_empty() && f.writes.wait("a").is_some(), "versions are numbers, and the newest counts");
    f.event(WatchEvent::Added(pod("other", "11")));
    assert_eq!(f.woken(), ["a"], "the log is past it: what it made is gone already");
    assert!(f.writes.wait("a").is_none());
    f.writes.note("a", &pod("a-2", "10"));
    assert!(f.writes.wait("a").is_none(), "the event came before the answer");
}

#[test]
fn a_bookmark_and_a_list_are_news_too() {
    let f = Fixture::new();
    for (version, marked) in [("20", true), ("30", false)] {
        f.writes.note("a", &pod("a-1", version));
        assert!(f.writes.wait("a").is_some());
        if marked {
            let bookmark = WatchEvent::Bookmark { resource_version: version.to_owned(), initial_events_end: false };
            f.event(bookmark);
        } else {
            f.pods.take_list(Vec::new(), version);
        }
        assert_eq!(f.woken(), ["a"]);
        assert!(f.writes.wait("a").is_none());
    }
}

#[test]
fn an_object_has_to_look_as_expected_or_to_be_gone() {
    let f = Fixture::new();
    f.event(WatchEvent::Added(pod("a-1", "1")));
    f.event(WatchEvent::Added(pod("a-2", "2")));
    f.writes.expect("a", &pod("a-1", "1"), held);
    f.writes.expect("a", &pod("a-2", "2"), held);
    assert!(f.writes.wait("a").is_some());
    f.event(WatchEvent::Modified(pod("a-1", "3")));
    assert_eq!(f.woken(), ["a"], "looked at again, in vain");
    assert!(f.writes.wait("a").is_some());
    f.event(WatchEvent::Modified(deleting("a-1", "4")));
    assert!(f.writes.wait("a").is_some());
    f.woken();
    f.pods.take_list(vec![deleting("a-1", "4")], "9");
    assert_eq!(f.woken(), ["a"]);
    assert!(f.writes.wait("a").is_none());
    f.writes.expect("a", &pod("a-2", "2"), held);
    assert!(f.writes.wait("a").is_none(), "the cache shows it already");
}

#[test]
fn a_cache_has_to_reach_what_others_wrote() {
    let f = Fixture::new();
    f.event(WatchEvent::Added(pod("a-1", "5")));
    f.writes.reach::<Pod>("quota", 5);
    assert!(f.writes.wait("quota").is_none(), "it is there");
    f.writes.reach::<Pod>("quota", 7);
    f.writes.reach::<Node>("quota", 9);
    assert!(f.writes.wait("quota").is_some());
    f.event(WatchEvent::Added(pod("a-2", "8")));
    assert_eq!(f.woken(), ["quota"]);
    assert!(f.writes.wait("quota").is_none(), "no cache of the other kind is followed");
}

#[test]
fn what_nobody_waits_for_is_forgotten() {
    let f = Fixture::new();
    f.writes.note("a", &pod("a-1", "7"));
    f.writes.forget("a");
    assert!(f.writes.wait("a").is_none(), "its owner is gone");
    f.writes.note("a", &Node::default());
    assert!(f.writes.wait("a").is_none(), "no cache of this kind is followed");
    let informer = f.pods.clone();
    drop(f);
    informer.take(WatchEvent::Added(pod("a-1", "8")), &mut String::new());
}
