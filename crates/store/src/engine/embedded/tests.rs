//! The engine over a backend that can fail and wait: what is not durable is not there.

use std::sync::{
    Arc, Condvar, Mutex as StdMutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{
    backend::{Backend, Batch, Loaded, Memory, Reader},
    record::RecordHead,
    *,
};
use crate::{KeyRange, Op, WatchMessage};

#[derive(Default)]
struct Control {
    fail: AtomicBool,
    commits: AtomicUsize,
    held: StdMutex<bool>,
    released: Condvar,
}

impl Control {
    fn hold(&self, held: bool) {
        *self.held.lock().expect("not poisoned") = held;
        self.released.notify_all();
    }
}

struct Faulty {
    inner: Memory,
    control: Arc<Control>,
}

impl Backend for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn blocks(&self) -> bool {
        true
    }

    fn load(&self, visit: &mut dyn FnMut(RecordHead<'_>)) -> Result<Loaded> {
        self.inner.load(visit)
    }

    fn commit(&self, batch: &Batch) -> Result<()> {
        self.control.commits.fetch_add(1, Ordering::SeqCst);
        let held = self.control.held.lock().expect("not poisoned");
        drop(self.control.released.wait_while(held, |held| *held).expect("not poisoned"));
        if self.control.fail.load(Ordering::SeqCst) { Err(Error::NoSpace) } else { self.inner.commit(batch) }
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        self.inner.reader()
    }

    fn size(&self) -> Result<(u64, u64)> {
        self.inner.size()
    }
}

fn open() -> (Arc<Embedded>, Arc<Control>) {
    let control = Arc::<Control>::default();
    let backend = Faulty { inner: Memory::default(), control: control.clone() };
    let options = EmbeddedOptions::default();
    let core = Core::load(Box::new(backend), &options).expect("load");
    (Embedded::start(core, options).expect("start"), control)
}

async fn keys(store: &Embedded) -> Vec<String> {
    let found = store.range(RangeRequest::new(KeyRange::all())).await.expect("range");
    found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

#[tokio::test]
async fn a_failed_commit_leaves_no_trace() {
    let (store, control) = open();
    let mut watcher = store.watch(WatchRequest::new(KeyRange::all())).await.expect("watch");
    let first = store.put("a".into(), "1".into(), 0).await.expect("put");
    control.fail.store(true, Ordering::SeqCst);
    let writes = (0..20).map(|n| store.put(format!("b{n}").into(), "x".into(), 0));
    for result in futures::future::join_all(writes).await {
        assert!(matches!(result, Err(Error::NoSpace)));
    }
    let txn = Txn { success: vec![Op::delete("a"), Op::put("c", "x")], ..Txn::default() };
    assert!(matches!(store.txn(txn).await, Err(Error::NoSpace)));
    assert!(matches!(store.lease_grant(60, 7).await, Err(Error::NoSpace)));
    assert!(matches!(store.compact(first).await, Err(Error::NoSpace)));
    assert_eq!((keys(&store).await, store.current_revision().await.expect("revision")), (vec!["a".to_owned()], first));
    assert!(store.lease_list().await.expect("list").is_empty());
    control.fail.store(false, Ordering::SeqCst);
    assert_eq!(store.put("d".into(), "1".into(), 0).await.expect("put"), first + 1);
    assert_eq!(keys(&store).await, ["a", "d"]);
    for expected in [first, first + 1] {
        let message = watcher.next().await.expect("not ended").expect("not failed");
        assert!(matches!(message, WatchMessage::Events { revision, .. } if revision == expected));
    }
}

#[tokio::test]
async fn nothing_is_seen_before_it_is_durable() {
    let (store, control) = open();
    control.hold(true);
    let writes: Vec<_> = (0..3)
        .map(|n| {
            let store = store.clone();
            rt::spawn("write", async move { store.put(format!("k{n}").into(), "x".into(), 0).await })
        })
        .collect();
    while control.commits.load(Ordering::SeqCst) == 0 {
        rt::yield_now().await;
    }
    assert!(keys(&store).await.is_empty(), "a read sees what is not durable");
    assert_eq!(store.current_revision().await.expect("revision"), 1);
    assert!(writes.iter().all(|write| !write.is_finished()), "acknowledged before durable");
    control.hold(false);
    for write in writes {
        write.await.expect("no panic").expect("put");
    }
    assert_eq!(keys(&store).await.len(), 3);
}

#[tokio::test]
async fn waiting_writers_share_a_commit() {
    let (store, control) = open();
    control.hold(true);
    let write = |n| {
        let store = store.clone();
        rt::spawn("write", async move { store.put_if("n".into(), n, "x".into(), 0).await })
    };
    let mut writes = vec![write(0)];
    while control.commits.load(Ordering::SeqCst) == 0 {
        rt::yield_now().await;
    }
    // The writer is in its first commit; all others must wait.
    writes.extend((1..100).map(write));
    while store.queue.capacity() + 99 > QUEUE {
        rt::yield_now().await;
    }
    control.hold(false);
    let mut applied = 0;
    for write in writes {
        if let crate::Conditional::Applied { .. } = write.await.expect("no panic").expect("put_if") {
            applied += 1;
        }
    }
    assert_eq!(control.commits.load(Ordering::SeqCst), 2, "one for the first, one for all that waited");
    assert_eq!(store.current_revision().await.expect("revision"), 1 + applied);
}

#[tokio::test(start_paused = true)]
async fn leases_end_by_the_clock() {
    let store = Embedded::memory(EmbeddedOptions::default()).expect("open");
    let short = store.lease_grant(10, 0).await.expect("grant").id;
    let long = store.lease_grant(20, 0).await.expect("grant").id;
    store.put("short".into(), "x".into(), short).await.expect("put");
    store.put("long".into(), "x".into(), long).await.expect("put");
    rt::time::sleep(Duration::from_secs(8)).await;
    store.lease_keep_alive(long).await.expect("keep alive");
    assert_eq!(keys(&store).await, ["long", "short"]);
    rt::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(keys(&store).await, ["long"]);
    rt::time::sleep(Duration::from_secs(16)).await;
    assert_eq!(keys(&store).await, ["long"], "kept alive at 8 s, ends at 28 s");
    rt::time::sleep(Duration::from_secs(2)).await;
    assert!(keys(&store).await.is_empty());
}
