//! Compaction, as upstream's API server does it: every five minutes to where the log was five minutes before. Several API servers
//! over one etcd agree by a transaction on upstream's own key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rt::Shutdown;
use store::{Compare, CompareOp, CompareTarget, KeyRange, Op, OpResponse, Store, Txn};
use tracing::{debug, warn};

/// Upstream's default of `--etcd-compaction-interval`.
pub const COMPACT_INTERVAL: Duration = Duration::from_secs(300);
const KEY: &str = "compact_rev_key";

/// Compacts until shutdown.
pub async fn compact_forever(store: Arc<dyn Store>, interval: Duration, shutdown: Shutdown) {
    let (mut time, mut revision) = (0, 0);
    while shutdown.run(rt::time::sleep(interval)).await.is_some() {
        match turn(&*store, time, revision).await {
            Ok((next_time, next_revision)) => (time, revision) = (next_time, next_revision),
            Err(error) => warn!(%error, "compaction failed"),
        }
    }
}

/// One turn: takes the key if nobody did since `time`, and then compacts to `revision`; gives both for the next turn.
async fn turn(store: &dyn Store, time: i64, revision: i64) -> store::Result<(i64, i64)> {
    let compare = Compare { range: KeyRange::key(KEY), op: CompareOp::Equal, target: CompareTarget::Version(time) };
    let txn = Txn {
        compares: vec![compare],
        success: vec![Op::put(KEY, Bytes::from(revision.to_string()))],
        failure: vec![Op::get(KEY)],
    };
    let answer = store.txn(txn).await?;
    if !answer.succeeded {
        let seen = match answer.responses.first() {
            Some(OpResponse::Range(range)) => range.kvs.first().map_or(0, |kv| kv.version),
            _ => 0,
        };
        return Ok((seen, answer.revision));
    }
    if revision > 0 {
        match store.compact(revision).await {
            Ok(()) => debug!(revision, "compacted"),
            Err(store::Error::Compacted { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((time + 1, answer.revision))
}
