//! Loss of power: what was not yet synced may be on the disk, or not, page by page, in any mixture.
//!
//! LMDB syncs its data pages and only then writes a meta page. So from the file before a commit and the file after it,
//! every state that a loss of power can leave is made: any subset of the changed data pages with the old meta
//! pages, or all of them with a meta page that is old or new. A torn meta page is not tried. Each must open as the state before or after.

use std::{fs, path::Path};

use store::{Embedded, EmbeddedOptions, KeyRange, KeyValue, Op, RangeRequest, Store, Txn};

const PAGE: usize = 4096;
const META_PAGES: usize = 2;

async fn dump(store: &dyn Store) -> (i64, Vec<KeyValue>) {
    let found = store.range(RangeRequest::new(KeyRange::all())).await.expect("range");
    (found.revision, found.kvs)
}

/// Opens a disk image as a store and dumps it.
async fn revive(image: &[u8]) -> (i64, Vec<KeyValue>) {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("data.mdb"), image).expect("write");
    let store = Embedded::open(dir.path(), EmbeddedOptions::default()).await.expect("open after the loss");
    let found = dump(&*store).await;
    store.close().await;
    found
}

/// The old image with those changed pages of the new one that `take` says, by page number.
fn mixed(old: &[u8], new: &[u8], mut take: impl FnMut(usize) -> bool) -> Vec<u8> {
    let mut image = old.to_vec();
    image.resize(old.len().max(new.len()), 0);
    for (number, page) in new.chunks(PAGE).enumerate() {
        let at = number * PAGE;
        if image[at..at + page.len()] != *page && take(number) {
            image[at..at + page.len()].copy_from_slice(page);
        }
    }
    image
}

/// A small generator of reproducible choices.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn write(store: &dyn Store, dice: &mut Dice, step: u64) {
    let mut txn = Txn::default();
    for n in 0..1 + dice.roll(4) {
        let key = format!("k{:02}", dice.roll(10) * 4 + n);
        txn.success.push(if dice.roll(5) == 0 {
            Op::delete(key)
        } else {
            // Some values need pages of their own.
            Op::put(key, format!("{step}-").repeat(1 + dice.roll(3) as usize * 900))
        });
    }
    txn.success.push(Op::put("always", step.to_string()));
    store.txn(txn).await.expect("txn");
}

fn image(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("data.mdb")).expect("read")
}

#[tokio::test]
async fn any_mixture_of_unsynced_pages_is_survived() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Embedded::open(dir.path(), EmbeddedOptions::default()).await.expect("open");
    let mut dice = Dice(7);
    for step in 0..40 {
        if step % 7 == 6 {
            // Frees pages, which later commits use again. The write after it waits until cleaning is done.
            let now = store.current_revision().await.expect("revision");
            store.compact(now - 2).await.expect("compact");
            write(&*store, &mut dice, step).await;
        }
        let (old, before) = (image(dir.path()), dump(&*store).await);
        write(&*store, &mut dice, step).await;
        let (new, after) = (image(dir.path()), dump(&*store).await);
        assert_ne!(before, after);
        for _ in 0..3 {
            let lost = mixed(&old, &new, |page| page >= META_PAGES && dice.roll(2) == 0);
            assert_eq!(revive(&lost).await, before, "step {step}: synced data changed");
        }
        assert_eq!(revive(&mixed(&old, &new, |page| page >= META_PAGES)).await, before, "step {step}: no meta page");
        assert_eq!(revive(&mixed(&old, &new, |_| true)).await, after, "step {step}: all written");
    }
}
