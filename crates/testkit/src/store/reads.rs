//! Reads, history and compaction.

use bytes::Bytes;
use store::{Error, KeyRange, RangeRequest};

use super::Env;

pub async fn get_and_versions(env: Env) {
    assert_eq!(env.value("a").await, None);
    let first = env.put("a", "1").await;
    let second = env.put("a", "2").await;
    assert_eq!(second, first + 1, "one revision per write");
    let (kv, revision) = env.store.get(env.key("a")).await.expect("get");
    let kv = kv.expect("the key is there");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version, kv.lease), (first, second, 2, 0));
    assert_eq!((&kv.value[..], revision), (&b"2"[..], second));
    let deleted = env.delete("a").await;
    assert_eq!(deleted, second + 1);
    assert_eq!(env.delete("a").await, deleted, "deleting nothing is no write");
    let third = env.put("a", "3").await;
    let (kv, _) = env.store.get(env.key("a")).await.expect("get");
    let kv = kv.expect("the key is back");
    assert_eq!((kv.create_revision, kv.version), (third, 1), "a new life begins at version 1");
    assert_eq!(env.store.current_revision().await.expect("revision"), third);
}

pub async fn ranges_in_key_order(env: Env) {
    for name in ["b", "a/2", "c", "a/1", "a0", "a"] {
        env.put(name, "x").await;
    }
    let list = async |range| env.store.range(RangeRequest::new(range)).await.expect("range").kvs;
    let names = |kvs: Vec<store::KeyValue>| kvs.iter().map(|kv| env.name(&kv.key)).collect::<Vec<_>>();
    assert_eq!(names(list(env.range()).await), ["a", "a/1", "a/2", "a0", "b", "c"]);
    assert_eq!(names(list(KeyRange::prefix(env.key("a/"))).await), ["a/1", "a/2"]);
    assert_eq!(names(list(KeyRange::half_open(env.key("a/2"), env.key("b"))).await), ["a/2", "a0"]);
    assert_eq!(names(list(KeyRange::key(env.key("a"))).await), ["a"]);
    assert!(list(KeyRange::half_open(env.key("b"), env.key("a"))).await.is_empty(), "an inverted range is empty");
    let from = list(KeyRange::from(env.key("b"))).await;
    assert!(from.len() >= 2 && from[0].key == env.key("b"));
    let all = list(KeyRange::all()).await;
    assert!(all.len() >= 6 && all.is_sorted_by(|a, b| a.key < b.key));
}

pub async fn limits_and_counts(env: Env) {
    for n in 0..5 {
        env.put(&format!("k{n}"), "v").await;
    }
    let request = RangeRequest::new(env.range());
    let page = env.store.range(request.clone().limit(2)).await.expect("range");
    assert_eq!((env.names(&page.kvs), page.more, page.count), (vec!["k0=v".into(), "k1=v".into()], true, 5));
    let page = env.store.range(request.clone().limit(5)).await.expect("range");
    assert_eq!((page.kvs.len(), page.more, page.count), (5, false, 5));
    let count = env.store.range(request.clone().count_only()).await.expect("range");
    assert_eq!((count.kvs.len(), count.more, count.count), (0, false, 5));
    let keys = env.store.range(request.keys_only()).await.expect("range");
    assert!(keys.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0 && kv.version == 1));
}

pub async fn reads_in_the_past(env: Env) {
    let first = env.put("a", "1").await;
    let second = env.put("b", "1").await;
    let third = env.put("a", "2").await;
    let fourth = env.delete("b").await;
    let expected: [(i64, &[&str]); 4] =
        [(first, &["a=1"]), (second, &["a=1", "b=1"]), (third, &["a=2", "b=1"]), (fourth, &["a=2"])];
    for (revision, names) in expected {
        let found = env.store.range(RangeRequest::new(env.range()).at(revision)).await.expect("range");
        assert_eq!(env.names(&found.kvs), names, "at {revision}");
        assert_eq!(found.revision, fourth, "the header has the current revision");
        assert_eq!(found.count, names.len() as i64);
    }
}

pub async fn compaction(env: Env) {
    let first = env.put("a", "1").await;
    let second = env.put("a", "2").await;
    let third = env.put("b", "1").await;
    let last = env.delete("b").await;
    env.store.compact(third).await.expect("compact");
    let at = |revision| RangeRequest::new(env.range()).at(revision);
    for revision in [first, second] {
        let error = env.store.range(at(revision)).await.expect_err("compacted");
        assert!(matches!(error, Error::Compacted { .. }), "{error:?}");
    }
    assert_eq!(env.names(&env.store.range(at(third)).await.expect("range").kvs), ["a=2", "b=1"]);
    let error = env.store.compact(second).await.expect_err("compacted already");
    assert!(matches!(error, Error::Compacted { .. }), "{error:?}");
    let error = env.store.compact(last + 1000).await.expect_err("in the future");
    assert!(matches!(error, Error::FutureRevision { .. }), "{error:?}");
    env.store.compact(last).await.expect("compact to the head");
    assert_eq!(env.names(&env.store.range(at(0)).await.expect("range").kvs), ["a=2"]);
    let (kv, _) = env.store.get(env.key("a")).await.expect("get");
    assert_eq!(kv.map(|kv| (kv.create_revision, kv.version)), Some((first, 2)));
    assert_eq!(env.put("b", "2").await, last + 1, "compaction is no revision");
}

pub async fn future_and_bad_requests(env: Env) {
    let now = env.put("a", "1").await;
    let error = env.store.range(RangeRequest::new(env.range()).at(now + 100)).await.expect_err("future");
    assert!(matches!(error, Error::FutureRevision { .. }), "{error:?}");
    let error = env.store.put(Bytes::new(), Bytes::from_static(b"x"), 0).await.expect_err("no key");
    assert!(matches!(error, Error::EmptyKey), "{error:?}");
    let error = env.store.get(Bytes::new()).await.expect_err("no key");
    assert!(matches!(error, Error::EmptyKey), "{error:?}");
    let large = vec![b'x'; 4 << 20];
    let error = env.store.put(env.key("large"), large.into(), 0).await.expect_err("too large");
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

/// Answers above the usual 4 MiB limit of gRPC.
pub async fn large_lists(env: Env) {
    let value = Bytes::from(vec![b'x'; 512 << 10]);
    for n in 0..12 {
        env.store.put(env.key(&format!("{n:02}")), value.clone(), 0).await.expect("put");
    }
    let list = env.store.range(RangeRequest::new(env.range())).await.expect("range");
    assert_eq!(list.kvs.len(), 12);
    assert!(list.kvs.iter().all(|kv| kv.value == value));
}
