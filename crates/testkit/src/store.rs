//! The contract of `store::Store`: what every engine must do, run the same against each.
//!
//! A case gets a store that others may have used before, and a key prefix of its own, so that one etcd serves all
//! cases. Cases panic with what they found.

mod leases;
mod reads;
mod txns;
mod watches;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use store::{Store, WatchMessage, Watcher};

/// One case.
pub type Case = fn(Env) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a case works with.
#[derive(Clone)]
pub struct Env {
    /// The store under test.
    pub store: Arc<dyn Store>,
    prefix: String,
}

impl Env {
    fn key(&self, name: &str) -> Bytes {
        format!("{}/{name}", self.prefix).into()
    }

    fn range(&self) -> store::KeyRange {
        store::KeyRange::prefix(format!("{}/", self.prefix))
    }

    async fn put(&self, name: &str, value: &str) -> i64 {
        self.store.put(self.key(name), Bytes::copy_from_slice(value.as_bytes()), 0).await.expect("put")
    }

    async fn delete(&self, name: &str) -> i64 {
        let txn = store::Txn { success: vec![store::Op::delete(self.key(name))], ..Default::default() };
        self.store.txn(txn).await.expect("delete").revision
    }

    async fn value(&self, name: &str) -> Option<String> {
        let (kv, _) = self.store.get(self.key(name)).await.expect("get");
        kv.map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
    }

    /// The part of a key after the case's prefix.
    fn name(&self, key: &[u8]) -> String {
        String::from_utf8_lossy(&key[self.prefix.len() + 1..]).into_owned()
    }

    /// Range answers as `name=value`.
    fn names(&self, kvs: &[store::KeyValue]) -> Vec<String> {
        kvs.iter().map(|kv| format!("{}={}", self.name(&kv.key), String::from_utf8_lossy(&kv.value))).collect()
    }
}

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// The next message of a watch.
async fn next(watcher: &mut Watcher) -> WatchMessage {
    tokio::time::timeout(PATIENCE, watcher.next())
        .await
        .expect("the watch has something to say in time")
        .expect("the watch has not ended")
        .expect("the watch has not failed")
}

macro_rules! cases {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        /// Every case with its name.
        pub const CASES: &[(&str, Case)] = &[$($((stringify!($name), |env| Box::pin($module::$name(env)))),+),+];
    };
}

cases! {
    reads: get_and_versions, ranges_in_key_order, limits_and_counts, reads_in_the_past, compaction, future_and_bad_requests, large_lists;
    txns: compares, all_or_nothing, conditional_writes, reads_its_own_writes, inner_transactions, refused_transactions,
        concurrent_counters, ignore_value_and_lease, read_only_keeps_revision;
    watches: events_in_order, from_the_past, one_batch_per_revision, previous_values, start_in_the_future, compacted_start,
        progress_on_request, only_its_range, many_watchers_see_the_same, slow_reader_loses_nothing;
    leases: grant_and_revoke, expiry_deletes_keys, keep_alive, moving_between_leases, unknown_leases, expiry_is_watched;
}

/// Runs every case against `store`.
///
/// # Panics
/// When a case finds a difference.
pub async fn contract(store: Arc<dyn Store>) {
    for (name, case) in CASES {
        let env = Env { store: store.clone(), prefix: format!("/contract/{name}") };
        println!("case {name}");
        case(env).await;
    }
}
