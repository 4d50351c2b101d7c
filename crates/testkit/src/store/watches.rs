//! Watches.

use bytes::Bytes;
use store::{Error, EventKind, KeyRange, Op, Txn, WatchMessage, WatchRequest, Watcher};

use super::{Env, next};

/// Reads changes as `revision name=value` or `revision -name` until there are `count`.
async fn changes(env: &Env, watcher: &mut Watcher, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        let WatchMessage::Events { revision, events } = next(watcher).await else { continue };
        for event in events {
            assert_eq!(event.kv.mod_revision, revision);
            let name = env.name(&event.kv.key);
            found.push(match event.kind {
                EventKind::Put => format!("{revision} {name}={}", String::from_utf8_lossy(&event.kv.value)),
                EventKind::Delete => format!("{revision} -{name}"),
            });
        }
    }
    found
}

pub async fn events_in_order(env: Env) {
    let mut watcher = env.store.watch(WatchRequest::new(env.range())).await.expect("watch");
    let first = env.put("a", "1").await;
    env.put("b", "1").await;
    env.put("a", "2").await;
    env.delete("b").await;
    let expected = [
        format!("{first} a=1"),
        format!("{} b=1", first + 1),
        format!("{} a=2", first + 2),
        format!("{} -b", first + 3),
    ];
    assert_eq!(changes(&env, &mut watcher, 4).await, expected);
}

pub async fn from_the_past(env: Env) {
    env.put("a", "1").await;
    let second = env.put("a", "2").await;
    let third = env.put("a", "3").await;
    let mut watcher = env.store.watch(WatchRequest::new(env.range()).from(second)).await.expect("watch");
    let fourth = env.delete("a").await;
    let expected = [format!("{second} a=2"), format!("{third} a=3"), format!("{fourth} -a")];
    assert_eq!(changes(&env, &mut watcher, 3).await, expected);
}

pub async fn one_batch_per_revision(env: Env) {
    let start = env.store.current_revision().await.expect("revision") + 1;
    let success = (0..50).map(|n| Op::put(env.key(&format!("{n:02}")), "x")).collect();
    env.store.txn(Txn { success, ..Txn::default() }).await.expect("txn");
    env.put("last", "x").await;
    let mut watcher = env.store.watch(WatchRequest::new(env.range()).from(start)).await.expect("watch");
    let WatchMessage::Events { revision, events } = next(&mut watcher).await else { panic!("events come first") };
    assert_eq!((revision, events.len()), (start, 50));
    let WatchMessage::Events { revision, events } = next(&mut watcher).await else { panic!("events come next") };
    assert_eq!((revision, events.len()), (start + 1, 1));
}

pub async fn previous_values(env: Env) {
    let mut with = env.store.watch(WatchRequest::new(env.range())).await.expect("watch");
    let mut without = env.store.watch(WatchRequest::new(env.range()).without_prev_kv()).await.expect("watch");
    let first = env.put("a", "1").await;
    env.put("a", "2").await;
    env.delete("a").await;
    for (watcher, expected) in [(&mut with, [None, Some("1"), Some("2")]), (&mut without, [None, None, None])] {
        for (n, expected) in expected.into_iter().enumerate() {
            let WatchMessage::Events { events, .. } = next(watcher).await else { panic!("events") };
            let found = events[0].prev_kv.as_ref().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
            assert_eq!(found.as_deref(), expected, "event {n}");
            assert_eq!(events[0].is_create(), n == 0);
            if let Some(prev) = &events[0].prev_kv {
                assert_eq!(prev.create_revision, first);
            }
            if events[0].kind == EventKind::Delete {
                assert!(events[0].kv.value.is_empty() && events[0].kv.version == 0);
            }
        }
    }
    let mut again = env.store.watch(WatchRequest::new(env.range()).from(first)).await.expect("watch");
    for expected in [None, Some("1"), Some("2")] {
        let WatchMessage::Events { events, .. } = next(&mut again).await else { panic!("events") };
        let found = events[0].prev_kv.as_ref().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
        assert_eq!(found.as_deref(), expected, "replayed");
    }
}

pub async fn start_in_the_future(env: Env) {
    let now = env.put("a", "1").await;
    let mut watcher = env.store.watch(WatchRequest::new(env.range()).from(now + 3)).await.expect("watch");
    for n in 2..6 {
        env.put("a", &n.to_string()).await;
    }
    assert_eq!(changes(&env, &mut watcher, 2).await, [format!("{} a=4", now + 3), format!("{} a=5", now + 4)]);
}

pub async fn compacted_start(env: Env) {
    let first = env.put("a", "1").await;
    env.put("a", "2").await;
    let third = env.put("a", "3").await;
    let last = env.delete("a").await;
    env.store.compact(third).await.expect("compact");
    let mut watcher = env.store.watch(WatchRequest::new(env.range()).from(first)).await.expect("watch");
    let item = tokio::time::timeout(super::PATIENCE, watcher.next()).await.expect("in time").expect("an item");
    match item {
        Err(Error::Compacted { compacted, .. }) => assert_eq!(compacted, third),
        other => panic!("a compacted start is an error, not {other:?}"),
    }
    assert!(watcher.next().await.is_none(), "the watch has ended");
    let mut watcher = env.store.watch(WatchRequest::new(env.range()).from(third)).await.expect("watch");
    assert_eq!(changes(&env, &mut watcher, 2).await, [format!("{third} a=3"), format!("{last} -a")]);
    env.store.compact(last).await.expect("compact");
    let mut watcher = env.store.watch(WatchRequest::new(env.range()).from(last)).await.expect("watch");
    assert_eq!(changes(&env, &mut watcher, 1).await, [format!("{last} -a")], "a deletion at the compaction stays");
}

pub async fn progress_on_request(env: Env) {
    let mut watcher = env.store.watch(WatchRequest::new(env.range()).with_progress()).await.expect("watch");
    let requester = watcher.progress_requester();
    let written = env.put("a", "1").await;
    assert_eq!(changes(&env, &mut watcher, 1).await, [format!("{written} a=1")]);
    let elsewhere = env.store.put(Bytes::from_static(b"/elsewhere"), Bytes::new(), 0).await.expect("put");
    requester.request();
    let WatchMessage::Progress { revision } = next(&mut watcher).await else { panic!("progress comes") };
    assert!(revision >= elsewhere, "{revision} is behind {elsewhere}");
}

pub async fn only_its_range(env: Env) {
    let mut prefix = env.store.watch(WatchRequest::new(KeyRange::prefix(env.key("b")))).await.expect("watch");
    let mut single = env.store.watch(WatchRequest::new(KeyRange::key(env.key("b")))).await.expect("watch");
    for name in ["a", "b1", "b", "c"] {
        env.put(name, "x").await;
    }
    let last = env.put("b", "y").await;
    let expected = [format!("{} b1=x", last - 3), format!("{} b=x", last - 2), format!("{last} b=y")];
    assert_eq!(changes(&env, &mut prefix, 3).await, expected);
    assert_eq!(changes(&env, &mut single, 2).await, expected[1..]);
}

pub async fn many_watchers_see_the_same(env: Env) {
    let mut watchers = Vec::new();
    for _ in 0..40 {
        watchers.push(env.store.watch(WatchRequest::new(env.range())).await.expect("watch"));
    }
    let first = env.put("k0", "x").await;
    futures::future::join_all((1..20).map(|n| {
        let env = env.clone();
        async move { env.put(&format!("k{n}"), "x").await }
    }))
    .await;
    let all = futures::future::join_all(watchers.iter_mut().map(|watcher| changes(&env, watcher, 20))).await;
    assert!(all[0][0].starts_with(&first.to_string()));
    assert!(all.iter().all(|one| *one == all[0]));
}

/// More than any engine keeps in memory for one watch.
pub async fn slow_reader_loses_nothing(env: Env) {
    let mut watcher = env.store.watch(WatchRequest::new(env.range())).await.expect("watch");
    let value = Bytes::from(vec![b'x'; 64 << 10]);
    let mut revisions = Vec::new();
    for n in 0..200 {
        revisions.push(env.store.put(env.key(&format!("k{}", n % 7)), value.clone(), 0).await.expect("put"));
    }
    for expected in revisions {
        let WatchMessage::Events { revision, events } = next(&mut watcher).await else { panic!("events") };
        assert_eq!((revision, events.len()), (expected, 1));
        assert_eq!(events[0].kv.value, value);
    }
}
