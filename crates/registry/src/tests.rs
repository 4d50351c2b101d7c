//! The storage against the memory engine, kind ConfigMap without rules.

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::UserInfo;
use meta::selector::{FieldSelector, LabelSelector};
use meta::{Object, Status};
use serde_json::{Value, json};

use crate::{
    Ctx, DeleteOptions, KindRow, ListOptions, Plain, Propagation, Registry, Request, Resource, UpdateOptions, Updater,
    VersionMatch, Warnings, Watch, WatchItem, decode_hub,
};

struct World {
    registry: Arc<Registry>,
    maps: Arc<Resource>,
}

fn world() -> World {
    let store = store::Embedded::memory(store::EmbeddedOptions::default()).expect("the memory engine starts");
    let registry = Registry::new(store, rt::Shutdown::new());
    let maps = registry.add(KindRow::new("", "v1", "ConfigMap", "configmaps", Arc::new(Plain)));
    World { registry, maps }
}

fn map(name: &str, more: Value) -> Object {
    let mut tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    meta::patch::merge_patch(&mut tree, &more);
    Object::from_value(tree).expect("an object")
}

impl World {
    fn request(&self, dry_run: bool) -> Request {
        Request {
            cx: Ctx {
                user: Arc::new(UserInfo::new("tester", &[])),
                namespace: "ns".into(),
                gvr: self.maps.row.gvr("v1"),
                subresource: String::new(),
                dry_run,
                registry: self.registry.clone(),
            },
            kind: self.maps.row.gvk("v1"),
            options: json!({}),
            warnings: Warnings::default(),
        }
    }

    async fn create(&self, object: Object) -> Result<Object, Status> {
        let raw = self.maps.create(&self.request(false), object).await?;
        decode_hub(&self.maps.row, &raw)
    }

    async fn delete(&self, name: &str, options: DeleteOptions) -> Result<bool, Status> {
        Ok(self.maps.delete(&self.request(false), name, &options).await?.gone)
    }

    async fn names(&self, options: ListOptions) -> Result<(Vec<String>, crate::Listed), Status> {
        let listed = self.maps.list(&options).await?;
        let names = listed.entries.iter().map(|e| e.identity(&self.maps.row).1.to_owned()).collect();
        Ok((names, listed))
    }
}

struct Change(Value);

#[async_trait]
impl Updater for Change {
    async fn next(&self, old: Option<&Object>) -> Result<Object, Status> {
        let mut tree = Value::from(old.expect("it exists").clone());
        meta::patch::merge_patch(&mut tree, &self.0);
        Ok(Object::from_value(tree).expect("an object"))
    }
}

impl World {
    async fn patch(&self, name: &str, patch: Value) -> Result<Object, Status> {
        let options = UpdateOptions { strategy: &Plain, create: false, main: true, admitted: false };
        let done = self.maps.update(&self.request(false), name, &Change(patch), options).await?;
        decode_hub(&self.maps.row, &done.raw)
    }
}

#[tokio::test]
async fn creates_once_and_sets_what_the_server_sets() {
    let world = world();
    let made = world.create(map("a", json!({"metadata": {"uid": "mine"}}))).await.expect("created");
    assert!(!made.uid().is_empty() && made.uid() != "mine");
    assert_eq!(made.namespace(), "ns");
    assert!(!made.resource_version().is_empty() && !made.meta_str("creationTimestamp").is_empty());
    assert!(world.create(map("a", json!({}))).await.expect_err("taken").is_already_exists());
    assert!(world.create(map("Bad_", json!({}))).await.expect_err("bad name").is_invalid());
    let generated = world.create(map("", json!({"metadata": {"generateName": "g-"}}))).await.expect("created");
    assert!(generated.name().starts_with("g-") && generated.name().len() == 7);
    let dry = world.maps.create(&world.request(true), map("dry", json!({}))).await.expect("accepted");
    assert_eq!(dry.revision, 0);
    assert!(world.maps.get("ns", "dry", None).await.expect_err("not kept").is_not_found());
}

#[tokio::test]
async fn updates_by_compare_and_swap() {
    let world = world();
    let made = world.create(map("a", json!({}))).await.expect("created");
    let same = world.patch("a", json!({})).await.expect("nothing to do");
    assert_eq!(same.resource_version(), made.resource_version(), "equal bytes are not written");
    let changed = world.patch("a", json!({"data": {"k": "v"}})).await.expect("patched");
    assert_ne!(changed.resource_version(), made.resource_version());
    let stale = json!({"metadata": {"resourceVersion": made.resource_version()}, "data": {"k": "w"}});
    assert!(world.patch("a", stale).await.expect_err("stale").is_conflict());
    assert!(world.patch("a", json!({"metadata": {"uid": "other"}})).await.expect_err("other uid").is_conflict());
    assert!(world.patch("b", json!({})).await.expect_err("absent").is_not_found());
}

#[tokio::test]
async fn finalizers_and_propagation_hold_a_delete() {
    let world = world();
    world.create(map("a", json!({"metadata": {"finalizers": ["x.io/y"]}}))).await.expect("created");
    let wrong = DeleteOptions { uid: Some("no".into()), ..DeleteOptions::default() };
    assert!(world.delete("a", wrong).await.expect_err("precondition").is_conflict());
    assert!(!world.delete("a", DeleteOptions::default()).await.expect("marked"));
    let marked = world.maps.get_object("ns", "a").await.expect("still there");
    assert!(marked.deletion_timestamp().is_some());
    let added = json!({"metadata": {"finalizers": ["x.io/y", "x.io/z"]}});
    assert!(world.patch("a", added).await.expect_err("no new finalizers").is_invalid());
    world.patch("a", json!({"metadata": {"finalizers": null}})).await.expect("released");
    assert!(world.maps.get_object("ns", "a").await.expect_err("gone").is_not_found());

    world.create(map("b", json!({}))).await.expect("created");
    let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    assert!(!world.delete("b", foreground).await.expect("marked"));
    assert_eq!(world.maps.get_object("ns", "b").await.expect("held").finalizers(), ["foregroundDeletion"]);
    let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    assert!(world.delete("b", background).await.expect("gone now"));
}

#[tokio::test]
async fn lists_by_pages_selectors_and_versions() {
    let world = world();
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red"), ("d", "blue"), ("e", "red")] {
        world.create(map(name, json!({"metadata": {"labels": {"color": color}}}))).await.expect("created");
    }
    let red = LabelSelector::parse("color=red").expect("a selector");
    let (names, listed) = world.names(ListOptions { labels: red, ..ListOptions::default() }).await.expect("listed");
    assert_eq!(names, ["a", "c", "e"]);
    let at = listed.revision;
    let one = FieldSelector::equal("metadata.name", "b");
    assert_eq!(world.names(ListOptions { fields: one, ..ListOptions::default() }).await.expect("listed").0, ["b"]);

    let page = ListOptions { namespace: "ns".into(), limit: 2, ..ListOptions::default() };
    let (names, first) = world.names(page.clone()).await.expect("listed");
    assert_eq!((names, first.remaining), (vec!["a".to_owned(), "b".to_owned()], Some(3)));
    world.create(map("bb", json!({}))).await.expect("created");
    let next = ListOptions { continue_token: first.continue_token, ..page };
    let (names, second) = world.names(next).await.expect("listed");
    assert_eq!(
        (names, second.revision),
        (vec!["c".to_owned(), "d".to_owned()], first.revision),
        "one snapshot for all pages"
    );

    let exact =
        ListOptions { resource_version: Some(at), version_match: VersionMatch::Exact, ..ListOptions::default() };
    assert_eq!(world.names(exact).await.expect("listed").0.len(), 5);
    world.registry.store().compact(at + 1).await.expect("compacted");
    let gone = ListOptions { resource_version: Some(at), version_match: VersionMatch::Exact, ..ListOptions::default() };
    assert!(world.maps.list(&gone).await.err().expect("compacted away").is_expired());
}

async fn next(watch: &mut Watch) -> (String, String) {
    match watch.next().await {
        Some(WatchItem::Event { kind, entry, .. }) => {
            let name = std::str::from_utf8(&entry.key).expect("text").rsplit('/').next().unwrap_or("").to_owned();
            (kind.as_str().to_owned(), name)
        }
        Some(WatchItem::Bookmark { initial_end, .. }) => ("BOOKMARK".into(), initial_end.to_string()),
        Some(WatchItem::Error(status)) => ("ERROR".into(), status.reason),
        None => ("END".into(), String::new()),
    }
}

#[tokio::test]
async fn watches_see_every_change_through_their_filter() {
    let world = world();
    let first = world.create(map("a", json!({"metadata": {"labels": {"color": "red"}}}))).await.expect("created");
    let start: i64 = first.resource_version().parse().expect("a number");
    let options = ListOptions {
        labels: LabelSelector::parse("color=red").expect("a selector"),
        resource_version: Some(start),
        ..ListOptions::default()
    };
    let mut watch = Watch::start(world.maps.clone(), options, None).await.expect("started");
    world.create(map("b", json!({}))).await.expect("created");
    world.patch("b", json!({"metadata": {"labels": {"color": "red"}}})).await.expect("patched");
    world.patch("b", json!({"data": {"k": "v"}})).await.expect("patched");
    world.patch("b", json!({"metadata": {"labels": null}})).await.expect("patched");
    world.delete("a", DeleteOptions::default()).await.expect("deleted");
    let wanted = [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "b"), ("DELETED", "a")];
    for (kind, name) in wanted {
        assert_eq!(next(&mut watch).await, (kind.to_owned(), name.to_owned()));
    }
}

#[tokio::test]
async fn initial_events_end_in_a_bookmark_and_old_starts_expire() {
    let world = world();
    world.create(map("a", json!({}))).await.expect("created");
    let options = ListOptions {
        send_initial_events: Some(true),
        version_match: VersionMatch::NotOlderThan,
        bookmarks: true,
        ..ListOptions::default()
    };
    let mut watch = Watch::start(world.maps.clone(), options, None).await.expect("started");
    assert_eq!(next(&mut watch).await, ("ADDED".into(), "a".into()));
    assert_eq!(next(&mut watch).await, ("BOOKMARK".into(), "true".into()));

    let other = self::world();
    for name in ["a", "b", "c"] {
        other.create(map(name, json!({}))).await.expect("created");
    }
    let now = other.registry.store().current_revision().await.expect("a revision");
    other.registry.store().compact(now).await.expect("compacted");
    let old = ListOptions { resource_version: Some(1), ..ListOptions::default() };
    let mut watch = Watch::start(other.maps.clone(), old, None).await.expect("failures come as items");
    assert_eq!(next(&mut watch).await, ("ERROR".into(), "Expired".into()));
}

#[tokio::test]
async fn old_events_give_way_by_bytes_and_are_then_read_from_the_log() {
    const CHANGES: usize = 24;
    let world = world();
    let first = world.create(map("a", json!({}))).await.expect("created");
    let start: i64 = first.resource_version().parse().expect("a number");
    let large = "x".repeat(300_000);
    for change in 0..CHANGES {
        world.patch("a", json!({"data": {"k": format!("{change}{large}")}})).await.expect("patched");
    }
    let options = ListOptions { resource_version: Some(start), ..ListOptions::default() };
    let mut watch = Watch::start(world.maps.clone(), options, None).await.expect("started");
    for _ in 0..CHANGES {
        assert_eq!(next(&mut watch).await, ("MODIFIED".into(), "a".into()));
    }
    let (events, bytes) = world.maps.cache().window();
    assert!(events < CHANGES && bytes <= crate::cache::WINDOW_BYTES, "{events} events, {bytes} bytes");
}
