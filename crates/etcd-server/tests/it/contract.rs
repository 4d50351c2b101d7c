//! The store's contract holds through the face and our client.

use store::{Store, WatchMessage, WatchRequest};

use crate::Server;

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_through_the_face() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("db"), &[]).await;
    testkit::store::contract(server.client()).await;
    assert_eq!(server.stop().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("db"), &[]).await;
    let (client, endpoint) = (server.client(), server.endpoint.clone());
    let mut watcher = client.watch(WatchRequest::new(store::KeyRange::prefix("k"))).await.expect("watch");
    let first = client.put("k1".into(), "x".into(), 0).await.expect("put");
    assert_eq!(server.stop().await, 0);
    let server = Server::start_at(&dir.path().join("db"), endpoint, &[]).await;
    let second = client.put("k2".into(), "x".into(), 0).await.expect("put");
    for expected in [first, second] {
        match watcher.next().await {
            Some(Ok(WatchMessage::Events { revision, .. })) => assert_eq!(revision, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.stop().await, 0);
}
