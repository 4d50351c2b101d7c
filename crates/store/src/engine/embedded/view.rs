//! Reading: ranges and compares over the index, the backend, and what a running batch has not yet written.

use parking_lot::RwLock;

use super::{
    backend::Reader,
    index::Index,
    record::{Record, RecordId},
};
use crate::{
    Compare, CompareOp, CompareTarget, Error, KeyRange, KeyValue, Op, OpResponse, RangeRequest, RangeResponse, Result,
    Revision, Txn, TxnResponse,
};

/// A place to read from. The reader must have been opened after the revision that is read became current.
pub(crate) struct View<'a> {
    pub index: &'a RwLock<Index>,
    pub reader: &'a dyn Reader,
    /// Records of the running batch, ascending by id.
    pub pending: &'a [Record],
}

impl View<'_> {
    /// Reads one record, which the index says is there.
    pub fn record(&self, id: RecordId) -> Result<Record> {
        if let Some(first) = self.pending.first()
            && id >= first.id
            && let Ok(at) = self.pending.binary_search_by_key(&id, |record| record.id)
        {
            return Ok(self.pending[at].clone());
        }
        self.reader
            .get(id)?
            .ok_or(Error::Corrupt { revision: id.revision, what: "the index names a record that is not there" })
    }

    /// The record of a key as of `revision`, if the key exists then.
    pub fn current(&self, key: &[u8], revision: Revision) -> Result<Option<Record>> {
        let id = self.index.read().get(key, revision);
        id.map(|id| self.record(id)).transpose()
    }

    /// Answers a range request; `head` is the current revision.
    pub fn range(&self, request: &RangeRequest, head: Revision) -> Result<RangeResponse> {
        let at = if request.revision == 0 { head } else { request.revision };
        if at > head {
            return Err(Error::FutureRevision { requested: at, current: head });
        }
        let wanted = match (request.count_only, request.limit) {
            (true, _) => 0,
            (false, 0) => usize::MAX,
            (false, limit) => limit,
        };
        let (mut ids, mut count) = (Vec::new(), 0i64);
        {
            let index = self.index.read();
            if at < index.compacted() {
                return Err(Error::Compacted { requested: at, compacted: index.compacted() });
            }
            index.scan(&request.range, at, |_, id| {
                count += 1;
                if ids.len() < wanted {
                    ids.push(id);
                }
                true
            });
        }
        let more = !request.count_only && (ids.len() as i64) < count;
        let mut kvs = Vec::with_capacity(ids.len());
        for id in ids {
            let mut kv = self.record(id)?.kv();
            if request.keys_only {
                kv.value.clear();
            }
            kvs.push(kv);
        }
        Ok(RangeResponse { kvs, revision: head, more, count })
    }

    /// Runs a transaction that has no writes.
    pub fn read_txn(&self, txn: &Txn, head: Revision) -> Result<TxnResponse> {
        let succeeded = self.all_hold(&txn.compares, head)?;
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let responses = ops.iter().map(|op| match op {
            Op::Range(request) => Ok(OpResponse::Range(self.range(request, head)?)),
            Op::Txn(inner) => Ok(OpResponse::Txn(self.read_txn(inner, head)?)),
            Op::Put(_) | Op::DeleteRange { .. } => Err(Error::Invalid("a write in a transaction that only reads")),
        });
        Ok(TxnResponse { revision: head, succeeded, responses: responses.collect::<Result<_>>()? })
    }

    /// Whether all compares hold as of `revision`.
    pub fn all_hold(&self, compares: &[Compare], revision: Revision) -> Result<bool> {
        for compare in compares {
            if !self.holds(compare, revision)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn holds(&self, compare: &Compare, revision: Revision) -> Result<bool> {
        // The common case, the guard of a compare-and-swap, needs no record.
        if let (CompareTarget::Mod(expected), true) = (&compare.target, compare.range.is_single()) {
            let found = self.index.read().get(&compare.range.start, revision);
            return Ok(ordered(compare.op, found.map_or(0, |id| id.revision), *expected));
        }
        let ids = self.ids(&compare.range, revision);
        if ids.is_empty() {
            let absent = KeyValue::default();
            return Ok(!matches!(compare.target, CompareTarget::Value(_)) && matches(compare, &absent));
        }
        for id in ids {
            if !matches(compare, &self.record(id)?.kv()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The records of a range as of `revision`.
    pub fn ids(&self, range: &KeyRange, revision: Revision) -> Vec<RecordId> {
        let mut ids = Vec::new();
        self.index.read().scan(range, revision, |_, id| {
            ids.push(id);
            true
        });
        ids
    }
}

fn matches(compare: &Compare, kv: &KeyValue) -> bool {
    match &compare.target {
        CompareTarget::Version(expected) => ordered(compare.op, kv.version, *expected),
        CompareTarget::Create(expected) => ordered(compare.op, kv.create_revision, *expected),
        CompareTarget::Mod(expected) => ordered(compare.op, kv.mod_revision, *expected),
        CompareTarget::Lease(expected) => ordered(compare.op, kv.lease, *expected),
        CompareTarget::Value(expected) => ordered(compare.op, &kv.value, expected),
    }
}

fn ordered<T: Ord>(op: CompareOp, left: T, right: T) -> bool {
    match op {
        CompareOp::Equal => left == right,
        CompareOp::NotEqual => left != right,
        CompareOp::Greater => left > right,
        CompareOp::Less => left < right,
    }
}
