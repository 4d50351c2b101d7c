//! The engine against a model: a list of maps, one per revision.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use store::{
    Conditional, Embedded, EmbeddedOptions, Error, KeyRange, Op, RangeRequest, Store, Txn, WatchMessage, WatchRequest,
};

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    /// Puts if the key's last change is as many revisions ago.
    PutIf(u8, u8, u8),
    Delete(u8, u8),
    Txn(Vec<(u8, Option<u8>)>),
    /// Compacts to this many revisions ago.
    Compact(u8),
    /// Reads this many revisions ago.
    Read(u8, u8, u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0u8..12;
    prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
        4 => (key.clone(), any::<u8>(), 0u8..3).prop_map(|(k, v, ago)| Step::PutIf(k, v, ago)),
        2 => (key.clone(), key.clone()).prop_map(|(a, b)| Step::Delete(a, b)),
        3 => prop::collection::btree_map(key.clone(), any::<Option<u8>>(), 1..5)
            .prop_map(|ops| Step::Txn(ops.into_iter().collect())),
        1 => (0u8..20).prop_map(Step::Compact),
        4 => (key.clone(), key, 0u8..20).prop_map(|(a, b, ago)| Step::Read(a, b, ago)),
        1 => Just(Step::Reopen),
    ]
}

/// Value, creation, last change, version.
type Entry = (u8, i64, i64, i64);

struct Model {
    /// The state after each revision, from 1 on.
    states: Vec<BTreeMap<u8, Entry>>,
    compacted: i64,
}

impl Model {
    fn head(&self) -> i64 {
        self.states.len() as i64
    }

    fn now(&self) -> &BTreeMap<u8, Entry> {
        self.states.last().expect("there is a first state")
    }

    fn write(&mut self, ops: &[(u8, Option<u8>)]) {
        let next = self.head() + 1;
        let mut state = self.now().clone();
        let mut changed = false;
        for (key, value) in ops {
            match value {
                Some(value) => {
                    let old = state.get(key).copied();
                    let (create, version) = old.map_or((next, 0), |(_, create, _, version)| (create, version));
                    state.insert(*key, (*value, create, next, version + 1));
                    changed = true;
                }
                None => changed |= state.remove(key).is_some(),
            }
        }
        if changed {
            self.states.push(state);
        }
    }

    fn range(&self, from: u8, to: u8, revision: i64) -> Vec<(u8, Entry)> {
        let state = &self.states[revision as usize - 1];
        if from >= to { vec![] } else { state.range(from..to).map(|(k, e)| (*k, *e)).collect() }
    }
}

fn key(n: u8) -> bytes::Bytes {
    vec![b'k', n].into()
}

async fn read(store: &dyn Store, from: u8, to: u8, revision: i64) -> Result<Vec<(u8, Entry)>, Error> {
    let range = RangeRequest::new(KeyRange::half_open(key(from), key(to))).at(revision);
    let kvs = store.range(range).await?.kvs;
    Ok(kvs.iter().map(|kv| (kv.key[1], (kv.value[0], kv.create_revision, kv.mod_revision, kv.version))).collect())
}

async fn apply(store: &dyn Store, model: &mut Model, step: &Step) {
    match step {
        Step::Put(k, v) => {
            store.put(key(*k), vec![*v].into(), 0).await.expect("put");
            model.write(&[(*k, Some(*v))]);
        }
        Step::PutIf(k, v, ago) => {
            let current = model.now().get(k).map_or(0, |entry| entry.2);
            let expected = (current - i64::from(*ago)).max(0);
            let done = store.put_if(key(*k), expected, vec![*v].into(), 0).await.expect("put_if");
            assert_eq!(matches!(done, Conditional::Applied { .. }), expected == current);
            if expected == current {
                model.write(&[(*k, Some(*v))]);
            }
        }
        Step::Delete(a, b) => {
            let range = KeyRange::half_open(key(*a), key(*b));
            let txn = Txn { success: vec![Op::DeleteRange { range, prev_kv: false }], ..Txn::default() };
            store.txn(txn).await.expect("delete");
            let gone: Vec<_> = model.range(*a, *b, model.head()).into_iter().map(|(k, _)| (k, None)).collect();
            model.write(&gone);
        }
        Step::Txn(ops) => {
            let success = ops.iter().map(|(k, v)| match v {
                Some(v) => Op::put(key(*k), vec![*v]),
                None => Op::delete(key(*k)),
            });
            store.txn(Txn { success: success.collect(), ..Txn::default() }).await.expect("txn");
            model.write(ops);
        }
        Step::Compact(ago) => {
            let revision = (model.head() - i64::from(*ago)).max(1);
            match store.compact(revision).await {
                Ok(()) => {
                    assert!(revision > model.compacted);
                    model.compacted = revision;
                }
                Err(error) => assert!(matches!(error, Error::Compacted { .. }) && revision <= model.compacted),
            }
        }
        Step::Read(a, b, ago) => {
            let revision = (model.head() - i64::from(*ago)).max(1);
            match read(store, *a, *b, revision).await {
                Ok(found) => {
                    assert!(revision >= model.compacted);
                    assert_eq!(found, model.range(*a, *b, revision), "at {revision}");
                }
                Err(error) => assert!(matches!(error, Error::Compacted { .. }) && revision < model.compacted),
            }
        }
        Step::Reopen => {}
    }
    assert_eq!(store.current_revision().await.expect("revision"), model.head());
}

/// What a watch from the compaction on must deliver: after each revision, the state that the model has.
async fn check_watch(store: &dyn Store, model: &Model) {
    let start = model.compacted.max(2);
    let mut state = model.states[start as usize - 2].clone();
    let mut watcher = store.watch(WatchRequest::new(KeyRange::all()).from(start)).await.expect("watch");
    for revision in start..=model.head() {
        let message = watcher.next().await.expect("not ended").expect("not failed");
        let WatchMessage::Events { revision: found, events } = message else { panic!("events, not {message:?}") };
        assert_eq!(found, revision, "no gaps");
        for event in events {
            match event.kind {
                store::EventKind::Delete => state.remove(&event.kv.key[1]),
                store::EventKind::Put => {
                    let kv = event.kv;
                    state.insert(kv.key[1], (kv.value[0], kv.create_revision, revision, kv.version))
                }
            };
        }
        assert_eq!(state, model.states[revision as usize - 1], "after {revision}");
    }
}

async fn run(steps: Vec<Step>, on_disk: bool) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = EmbeddedOptions { log_bytes: 2000, ..EmbeddedOptions::default() };
    let open = async || -> Arc<Embedded> {
        if on_disk {
            Embedded::open(dir.path(), options.clone()).await.expect("open")
        } else {
            Embedded::memory(options.clone()).expect("open")
        }
    };
    let mut store = open().await;
    let mut model = Model { states: vec![BTreeMap::new()], compacted: 0 };
    for step in &steps {
        apply(&*store, &mut model, step).await;
        if on_disk && matches!(step, Step::Reopen) {
            check_watch(&*store, &model).await;
            store.close().await;
            drop(store);
            store = open().await;
        }
    }
    check_watch(&*store, &model).await;
}

fn block_on(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn memory_follows_the_model(steps in prop::collection::vec(step(), 1..120)) {
        block_on(run(steps, false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn disk_follows_the_model(steps in prop::collection::vec(step(), 1..60)) {
        block_on(run(steps, true));
    }
}
