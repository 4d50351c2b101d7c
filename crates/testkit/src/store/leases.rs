//! Leases.

use bytes::Bytes;
use store::{Error, EventKind, WatchMessage, WatchRequest};

use super::{Env, next};

async fn put_leased(env: &Env, name: &str, lease: i64) -> i64 {
    env.store.put(env.key(name), Bytes::from_static(b"x"), lease).await.expect("put")
}

pub async fn grant_and_revoke(env: Env) {
    let lease = env.store.lease_grant(600, 0).await.expect("grant");
    assert!(lease.id > 0 && lease.ttl >= 600);
    assert!(env.store.lease_list().await.expect("list").contains(&lease.id));
    let put = put_leased(&env, "a", lease.id).await;
    put_leased(&env, "b", lease.id).await;
    let (kv, _) = env.store.get(env.key("a")).await.expect("get");
    assert_eq!(kv.map(|kv| kv.lease), Some(lease.id));
    let status = env.store.lease_time_to_live(lease.id, true).await.expect("time to live");
    assert_eq!((status.granted_ttl, status.keys), (lease.ttl, vec![env.key("a"), env.key("b")]));
    assert!((1..=lease.ttl).contains(&status.remaining_ttl));
    assert_eq!(env.store.lease_revoke(lease.id).await.expect("revoke"), put + 2, "one revision for all keys");
    assert_eq!((env.value("a").await, env.value("b").await), (None, None));
    assert!(!env.store.lease_list().await.expect("list").contains(&lease.id));
    let again = env.store.lease_revoke(lease.id).await.expect_err("gone");
    assert!(matches!(again, Error::LeaseNotFound(_)), "{again:?}");
}

pub async fn expiry_deletes_keys(env: Env) {
    let lease = env.store.lease_grant(1, 0).await.expect("grant");
    let mut watcher = env.store.watch(WatchRequest::new(env.range())).await.expect("watch");
    put_leased(&env, "a", lease.id).await;
    assert!(
        matches!(next(&mut watcher).await, WatchMessage::Events { events, .. } if events[0].kind == EventKind::Put)
    );
    assert!(
        matches!(next(&mut watcher).await, WatchMessage::Events { events, .. } if events[0].kind == EventKind::Delete)
    );
    assert_eq!(env.value("a").await, None);
    let status = env.store.lease_time_to_live(lease.id, false).await.expect("time to live");
    assert_eq!(status.remaining_ttl, -1);
}

pub async fn keep_alive(env: Env) {
    let lease = env.store.lease_grant(60, 0).await.expect("grant");
    assert_eq!(env.store.lease_keep_alive(lease.id).await.expect("keep alive").ttl, lease.ttl);
    env.store.lease_revoke(lease.id).await.expect("revoke");
    let error = env.store.lease_keep_alive(lease.id).await.expect_err("gone");
    assert!(matches!(error, Error::LeaseNotFound(_)), "{error:?}");
}

pub async fn moving_between_leases(env: Env) {
    let first = env.store.lease_grant(600, 0).await.expect("grant").id;
    let second = env.store.lease_grant(600, 0).await.expect("grant").id;
    put_leased(&env, "moved", first).await;
    put_leased(&env, "moved", second).await;
    put_leased(&env, "freed", first).await;
    put_leased(&env, "freed", 0).await;
    put_leased(&env, "stays", first).await;
    env.store.lease_revoke(first).await.expect("revoke");
    assert_eq!(env.value("stays").await, None);
    assert!(env.value("moved").await.is_some() && env.value("freed").await.is_some());
    env.store.lease_revoke(second).await.expect("revoke");
    assert!(env.value("moved").await.is_none() && env.value("freed").await.is_some());
}

pub async fn unknown_leases(env: Env) {
    let id = 0x7777_0002;
    let error = env.store.put(env.key("a"), Bytes::new(), id).await.expect_err("no such lease");
    assert!(matches!(error, Error::LeaseNotFound(_)), "{error:?}");
    assert_eq!(env.store.lease_time_to_live(id, true).await.expect("time to live").remaining_ttl, -1);
    let lease = env.store.lease_grant(60, id).await.expect("grant");
    assert_eq!(lease.id, id);
    let error = env.store.lease_grant(60, id).await.expect_err("exists");
    assert!(matches!(error, Error::LeaseExists(_)), "{error:?}");
    env.store.lease_revoke(id).await.expect("revoke");
    let error = env.store.lease_grant(i64::MAX, 0).await.expect_err("too long");
    assert!(matches!(error, Error::LeaseTtl(_)), "{error:?}");
}

pub async fn expiry_is_watched(env: Env) {
    let lease = env.store.lease_grant(600, 0).await.expect("grant").id;
    for name in ["a", "b", "c"] {
        put_leased(&env, name, lease).await;
    }
    let mut watcher = env.store.watch(WatchRequest::new(env.range())).await.expect("watch");
    let end = env.store.lease_revoke(lease).await.expect("revoke");
    let WatchMessage::Events { revision, events } = next(&mut watcher).await else { panic!("events") };
    assert_eq!(revision, end);
    let mut names: Vec<_> = events.iter().map(|event| env.name(&event.kv.key)).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(events.iter().all(|event| event.kind == EventKind::Delete && event.prev_kv.is_some()));
}
