use meta::OwnerReference;

use super::{Follow, Graph, Identity, Observed};

fn seen(uid: &str, owners: &[&str], deleting: bool, finalizers: &[&str]) -> Observed {
    let owner = |uid: &&str| OwnerReference {
        uid: (*uid).to_owned(),
        name: (*uid).to_owned(),
        block_owner_deletion: Some(true),
        ..OwnerReference::default()
    };
    Observed {
        identity: Identity {
            api_version: "v1".into(),
            kind: "K".into(),
            namespace: "ns".into(),
            name: uid.into(),
            uid: uid.into(),
        },
        owners: owners.iter().map(owner).collect(),
        deleting,
        finalizers: finalizers.iter().map(|f| (*f).to_owned()).collect(),
    }
}

fn delete(uid: &str) -> Follow {
    Follow::Delete(uid.into())
}

#[test]
fn an_owner_gone_brings_its_dependents_up() {
    let mut graph = Graph::default();
    assert!(graph.upsert(seen("owner", &[], false, &[])).is_empty());
    assert!(graph.upsert(seen("pod", &["owner"], false, &[])).is_empty());
    assert_eq!(graph.remove("owner"), [delete("pod")]);
}

#[test]
fn an_owner_never_seen_is_looked_for() {
    let mut graph = Graph::default();
    assert_eq!(graph.upsert(seen("pod", &["ghost"], false, &[])), [delete("ghost")]);
    assert_eq!(graph.remove("ghost"), [delete("pod")]);
    assert!(graph.upsert(seen("late", &[], false, &[])).is_empty());
}

#[test]
fn foreground_deletion_waits_for_blocking_dependents() {
    let mut graph = Graph::default();
    graph.upsert(seen("owner", &[], false, &[]));
    graph.upsert(seen("pod", &["owner"], false, &[]));
    let follows = graph.upsert(seen("owner", &[], true, &["foregroundDeletion"]));
    assert_eq!(follows, [delete("pod"), delete("owner")]);
    assert_eq!(graph.blocking_dependents("owner"), [("pod".to_owned(), false)]);
    assert_eq!(graph.remove("pod"), [delete("owner")]);
    assert!(graph.blocking_dependents("owner").is_empty());
}

#[test]
fn orphaning_is_asked_for_once() {
    let mut graph = Graph::default();
    graph.upsert(seen("owner", &[], false, &[]));
    assert_eq!(graph.upsert(seen("owner", &[], true, &["orphan"])), [Follow::Orphan("owner".into())]);
    assert!(graph.upsert(seen("owner", &[], true, &["orphan"])).is_empty());
}
