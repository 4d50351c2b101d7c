//! The key index: for every key the ids of its records, in memory.
//!
//! Entries of transactions that are not yet durable are in it too; readers do not see them, because they read at the
//! last published revision, which is lower.

use std::{collections::BTreeMap, ops::Bound};

use smallvec::SmallVec;

use super::record::RecordId;
use crate::{Key, KeyRange, RangeEnd, Revision};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    revision: Revision,
    sub: u32,
    tombstone: bool,
}

impl Entry {
    fn id(self) -> RecordId {
        RecordId { revision: self.revision, sub: self.sub }
    }
}

/// Most keys have one record between compactions, which needs no allocation.
type History = SmallVec<[Entry; 1]>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Key, History>,
    /// Revisions below this cannot be read.
    compacted: Revision,
}

impl Index {
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    pub fn set_compacted(&mut self, revision: Revision) {
        self.compacted = revision;
    }

    /// Adds the newest record of a key.
    pub fn push(&mut self, key: &[u8], id: RecordId, tombstone: bool) {
        let entry = Entry { revision: id.revision, sub: id.sub, tombstone };
        match self.keys.get_mut(key) {
            Some(history) => history.push(entry),
            None => {
                // A copy: the key given may be a slice of a whole network frame, which would be kept with it.
                self.keys.insert(Key::copy_from_slice(key), SmallVec::from_elem(entry, 1));
            }
        }
    }

    /// Takes back a [`Index::push`].
    pub fn pop(&mut self, key: &[u8], id: RecordId) {
        if let Some(history) = self.keys.get_mut(key) {
            history.retain(|entry| entry.id() != id);
            if history.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    /// The record of `key` as of `revision`, if the key exists then.
    pub fn get(&self, key: &[u8], revision: Revision) -> Option<RecordId> {
        visible(self.keys.get(key)?, revision)
    }

    /// Calls `visit` for every key of the range that exists at `revision`, in order, until it returns false.
    pub fn scan(&self, range: &KeyRange, revision: Revision, mut visit: impl FnMut(&Key, RecordId) -> bool) {
        let end = match &range.end {
            RangeEnd::Single => {
                if let Some((key, history)) = self.keys.get_key_value(&range.start)
                    && let Some(id) = visible(history, revision)
                {
                    visit(key, id);
                }
                return;
            }
            RangeEnd::Before(end) if *end <= range.start => return,
            RangeEnd::Before(end) => Bound::Excluded(end),
            RangeEnd::Unbounded => Bound::Unbounded,
        };
        for (key, history) in self.keys.range::<Key, _>((Bound::Included(&range.start), end)) {
            if let Some(id) = visible(history, revision)
                && !visit(key, id)
            {
                return;
            }
        }
    }

    /// Forgets, in up to `limit` keys from `from` on, what a compaction at `revision` removes.
    ///
    /// Returns the ids to delete and the key to go on from, `None` at the end. Kept is each key's last record up to
    /// `revision`, unless it is a tombstone of an earlier revision: a watch from `revision` itself still sees one made there.
    pub fn compact(&mut self, revision: Revision, from: &Key, limit: usize) -> (Vec<RecordId>, Option<Key>) {
        let mut removed = Vec::new();
        let mut emptied = Vec::new();
        let mut next = None;
        for (visited, (key, history)) in self.keys.range_mut::<Key, _>(from.clone()..).enumerate() {
            if visited == limit {
                next = Some(key.clone());
                break;
            }
            let old = history.iter().take_while(|entry| entry.revision <= revision).count();
            let Some(last) = old.checked_sub(1) else { continue };
            let keep_last = !history[last].tombstone || history[last].revision == revision;
            let cut = if keep_last { last } else { old };
            removed.extend(history.drain(..cut).map(Entry::id));
            if history.is_empty() {
                emptied.push(key.clone());
            } else if history.spilled() {
                history.shrink_to_fit();
            }
        }
        for key in emptied {
            self.keys.remove(&key);
        }
        (removed, next)
    }
}

fn visible(history: &History, revision: Revision) -> Option<RecordId> {
    let entry = history.iter().rev().find(|entry| entry.revision <= revision)?;
    (!entry.tombstone).then(|| entry.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(revision: Revision) -> RecordId {
        RecordId::first_of(revision)
    }

    fn keys(index: &Index, revision: Revision) -> Vec<Revision> {
        let mut found = Vec::new();
        index.scan(&KeyRange::all(), revision, |_, id| {
            found.push(id.revision);
            true
        });
        found
    }

    #[test]
    fn reads_are_as_of_their_revision_before_and_after_compaction() {
        let mut index = Index::default();
        let (a, b) = (Key::from_static(b"a"), Key::from_static(b"b"));
        index.push(&a, id(2), false);
        index.push(&b, id(3), false);
        index.push(&a, id(4), false);
        index.push(&b, id(5), true);
        index.push(&b, id(6), false);
        let expected = [(1, vec![]), (2, vec![2]), (3, vec![2, 3]), (4, vec![4, 3]), (5, vec![4]), (6, vec![4, 6])];
        for (revision, found) in expected {
            assert_eq!(keys(&index, revision), found, "at {revision}");
        }
        let (removed, next) = index.compact(5, &Key::new(), 10);
        assert_eq!((removed, next), (vec![id(2), id(3)], None), "the tombstone at 5 stays");
        assert_eq!((keys(&index, 5), keys(&index, 6)), (vec![4], vec![4, 6]));
        let (removed, _) = index.compact(6, &Key::new(), 10);
        assert_eq!(removed, vec![id(5)]);
    }

    #[test]
    fn compaction_goes_in_steps_and_drops_dead_keys() {
        let mut index = Index::default();
        for (n, name) in ["a", "b", "c"].iter().enumerate() {
            index.push(&Key::from(*name), id(2 + 2 * n as i64), false);
            index.push(&Key::from(*name), id(3 + 2 * n as i64), true);
        }
        let (removed, next) = index.compact(8, &Key::new(), 2);
        assert_eq!((removed.len(), next.clone()), (4, Some(Key::from_static(b"c"))));
        let (removed, next) = index.compact(8, &next.expect("a next key"), 2);
        assert_eq!((removed.len(), next), (2, None));
        assert!(index.keys.is_empty());
    }
}
