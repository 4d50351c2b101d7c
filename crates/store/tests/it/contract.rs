//! Every engine keeps the contract.

use store::{Embedded, EmbeddedOptions, Store, engine::snapshot};

/// A log so small that watches must read from the backend.
fn small_log() -> EmbeddedOptions {
    EmbeddedOptions { log_bytes: 64 << 10, ..EmbeddedOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Embedded::open(dir.path().join("db"), EmbeddedOptions::default()).await.expect("open");
    testkit::store::contract(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_that_replays_from_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Embedded::open(dir.path().join("db"), small_log()).await.expect("open");
    testkit::store::contract(store).await;
}

#[tokio::test]
async fn memory() {
    testkit::store::contract(Embedded::memory(EmbeddedOptions::default()).expect("open")).await;
    testkit::store::contract(Embedded::memory(small_log()).expect("open")).await;
}

#[tokio::test]
async fn a_directory_is_opened_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Embedded::open(dir.path(), EmbeddedOptions::default()).await.expect("open");
    let second = Embedded::open(dir.path(), EmbeddedOptions::default()).await;
    assert!(matches!(second.err(), Some(store::Error::InUse { .. })));
    first.close().await;
    assert!(matches!(first.put("a".into(), "x".into(), 0).await, Err(store::Error::Closed)));
    drop(first);
    Embedded::open(dir.path(), EmbeddedOptions::default()).await.expect("open again");
}

#[tokio::test]
async fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let _store = Embedded::open(dir.path().join("db"), EmbeddedOptions::default()).await.expect("open");
    for file in std::fs::read_dir(dir.path().join("db")).expect("read") {
        let file = file.expect("read");
        let mode = file.metadata().expect("stat").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Embedded::open(dir.path(), EmbeddedOptions::default());
    let store = open().await.expect("open");
    let lease = store.lease_grant(600, 0).await.expect("grant");
    for n in 0..300 {
        let lease = if n % 3 == 0 { lease.id } else { 0 };
        store.put(format!("k{:03}", n % 100).into(), format!("v{n}").into(), lease).await.expect("put");
    }
    store.compact(150).await.expect("compact");
    let before = (dump(&*store, 0).await, dump(&*store, 200).await, store.current_revision().await.expect("revision"));
    store.close().await;
    drop(store);
    let store = open().await.expect("open again");
    let after = (dump(&*store, 0).await, dump(&*store, 200).await, store.current_revision().await.expect("revision"));
    assert_eq!(before, after);
    assert!(matches!(read_at(&*store, 149).await, Err(store::Error::Compacted { compacted: 150, .. })));
    let keys = store.lease_time_to_live(lease.id, true).await.expect("time to live").keys;
    assert_eq!(keys.len(), 33, "the lease has its keys");
    store.lease_revoke(lease.id).await.expect("revoke");
    assert_eq!(dump(&*store, 0).await.len(), 67);
}

#[tokio::test]
async fn a_snapshot_becomes_a_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Embedded::memory(EmbeddedOptions::default()).expect("open");
    let lease = store.lease_grant(600, 0).await.expect("grant").id;
    for n in 0..2500 {
        store.put(format!("k{n}").into(), "x".into(), if n == 7 { lease } else { 0 }).await.expect("put");
    }
    let txn = store::Txn { success: vec![store::Op::put("p", "1"), store::Op::put("q", "1")], ..Default::default() };
    store.txn(txn).await.expect("txn");
    let file = dir.path().join("snapshot");
    let revision = store.snapshot(&file).await.expect("snapshot");
    let restored = snapshot::restore(&file, &dir.path().join("db"), revision + 100).expect("restore");
    assert_eq!(restored, revision + 100);
    let copy = Embedded::open(dir.path().join("db"), EmbeddedOptions::default()).await.expect("open");
    assert_eq!(dump(&*copy, 0).await, dump(&*store, 0).await);
    assert_eq!(copy.lease_list().await.expect("list"), vec![lease]);
    assert_eq!(copy.put("z".into(), "x".into(), 0).await.expect("put"), restored + 1);
    let other = Embedded::memory(EmbeddedOptions::default()).expect("open");
    let loaded = snapshot::load_into(&*other, &file).await.expect("load");
    assert!(loaded >= revision);
    let (found, expected) = (dump(&*other, 0).await, dump(&*store, 0).await);
    assert!(
        found
            .iter()
            .map(|kv| (&kv.key, &kv.value, kv.lease))
            .eq(expected.iter().map(|kv| (&kv.key, &kv.value, kv.lease)))
    );
    assert!(snapshot::load_into(&*other, &file).await.is_err(), "only an empty store is filled");
    let mut bytes = std::fs::read(&file).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("write");
    assert!(snapshot::restore(&file, &dir.path().join("other"), 0).is_err(), "damage is noticed");
}

async fn read_at(store: &dyn Store, revision: i64) -> store::Result<Vec<store::KeyValue>> {
    Ok(store.range(store::RangeRequest::new(store::KeyRange::all()).at(revision)).await?.kvs)
}

async fn dump(store: &dyn Store, revision: i64) -> Vec<store::KeyValue> {
    read_at(store, revision).await.expect("range")
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(server) = testkit::etcd::RealEtcd::start(dir.path()) else { return };
    // The first endpoint is dead: every call must find the second.
    let endpoints = vec!["http://127.0.0.1:1".to_owned(), server.endpoint.clone()];
    let store = store::Etcd::connect(store::EtcdOptions { endpoints, ..Default::default() }).expect("options");
    testkit::store::contract(store.clone()).await;
    let file = dir.path().join("snapshot");
    let revision = store.snapshot(&file).await.expect("snapshot");
    snapshot::restore(&file, &dir.path().join("db"), revision).expect("restore");
    let copy = Embedded::open(dir.path().join("db"), EmbeddedOptions::default()).await.expect("open");
    assert_eq!(dump(&*copy, 0).await, dump(&*store, 0).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_watch_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(server) = testkit::etcd::RealEtcd::start(dir.path()) else { return };
    let endpoint = server.endpoint.clone();
    let options = store::EtcdOptions { endpoints: vec![endpoint.clone()], ..Default::default() };
    let store = store::Etcd::connect(options).expect("options");
    let mut watcher = store.watch(store::WatchRequest::new(store::KeyRange::prefix("k"))).await.expect("watch");
    let first = store.put("k1".into(), "x".into(), 0).await.expect("put");
    let item = async |watcher: &mut store::Watcher| match watcher.next().await {
        Some(Ok(store::WatchMessage::Events { revision, .. })) => revision,
        other => panic!("{other:?}"),
    };
    assert_eq!(item(&mut watcher).await, first);
    drop(server);
    let program = testkit::etcd::etcd_program().expect("it was there a moment ago");
    let _server = testkit::etcd::RealEtcd::start_at(&program, dir.path(), &endpoint, &[]);
    let second = store.put("k2".into(), "x".into(), 0).await.expect("put");
    assert_eq!(item(&mut watcher).await, second);
}
