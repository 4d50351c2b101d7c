//! A writer killed in the middle loses nothing that it was told is done, and leaves no half transaction.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::Arc,
};

use store::{Embedded, EmbeddedOptions, KeyRange, Op, RangeRequest, Store, Txn};

const DIR: &str = "CORTEN_STORE_CRASH_DIR";
const WRITERS: usize = 8;

/// Not a test of its own: the process that gets killed. It prints a line for every acknowledged transaction.
#[test]
fn child_that_writes() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Embedded::open(dir, EmbeddedOptions::default()).await.expect("open");
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write_forever(store.clone(), writer)));
        futures::future::join_all(writers).await;
    });
}

async fn write_forever(store: Arc<Embedded>, writer: usize) {
    for n in 0.. {
        let value = format!("{n:08}").repeat(100);
        let success = vec![
            Op::put(format!("a/{writer}"), value.clone()),
            Op::put(format!("b/{writer}"), value.clone()),
            Op::put(format!("log/{writer}/{n:08}"), "x"),
        ];
        let done = store.txn(Txn { success, ..Txn::default() }).await.expect("txn");
        println!("acked {writer} {n} {}", done.revision);
        if writer == 0 && n % 50 == 49 {
            store.compact(done.revision - 20).await.expect("compact");
        }
    }
}

#[tokio::test]
async fn killed_writers_lose_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acked = [None::<u64>; WRITERS];
    let mut revision = 1;
    for round in 0..4 {
        if round > 0 {
            // A fresh process starts its counters anew; the log keys of the rounds before are removed first.
            let store = Embedded::open(dir.path(), EmbeddedOptions::default()).await.expect("open");
            let range = KeyRange::prefix("log/");
            let txn = Txn { success: vec![Op::DeleteRange { range, prev_kv: false }], ..Txn::default() };
            store.txn(txn).await.expect("delete");
            store.close().await;
            acked = [None; WRITERS];
        }
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "crash::child_that_writes", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawn");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut count = 0;
        for line in lines {
            let line = line.expect("a line");
            let Some(rest) = line.split("acked ").nth(1) else { continue };
            let numbers: Vec<u64> = rest.split(' ').filter_map(|word| word.parse().ok()).collect();
            // The last line may be cut by the kill.
            let [writer, n, at] = numbers[..] else { continue };
            acked[writer as usize] = Some(n);
            revision = revision.max(at as i64);
            count += 1;
            if count == 300 + 100 * round {
                child.kill().expect("kill");
            }
        }
        child.wait().expect("wait");
        verify(dir.path(), &acked, revision).await;
    }
}

async fn verify(dir: &std::path::Path, acked: &[Option<u64>; WRITERS], revision: i64) {
    let store = Embedded::open(dir, EmbeddedOptions::default()).await.expect("open after the kill");
    assert!(store.current_revision().await.expect("revision") >= revision, "an acknowledged revision is lost");
    for (writer, acked) in acked.iter().enumerate() {
        let Some(acked) = acked else { continue };
        let (a, _) = store.get(format!("a/{writer}").into()).await.expect("get");
        let (b, _) = store.get(format!("b/{writer}").into()).await.expect("get");
        let (a, b) = (a.expect("a is there"), b.expect("b is there"));
        assert_eq!((&a.value, a.mod_revision), (&b.value, b.mod_revision), "half a transaction");
        let found: u64 = String::from_utf8_lossy(&a.value[..8]).parse().expect("a number");
        assert!(found >= *acked, "writer {writer}: {acked} was acknowledged, {found} is there");
        let log = KeyRange::prefix(format!("log/{writer}/"));
        let count = store.range(RangeRequest::new(log).count_only()).await.expect("range").count;
        assert_eq!(count as u64, found + 1, "writer {writer} lost one in between");
    }
    store.close().await;
}
