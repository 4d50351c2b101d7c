//! The seam between the engine and the place where records are kept.

use std::collections::BTreeMap;

use parking_lot::{RwLock, RwLockReadGuard};

use super::record::{Record, RecordHead, RecordId};
use crate::{LeaseId, Result, Revision};

/// Changes that become durable together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// New records, ascending by id.
    pub records: Vec<Record>,
    /// Records that a compaction removes.
    pub deletes: Vec<RecordId>,
    /// Leases granted, with their seconds.
    pub granted: Vec<(LeaseId, i64)>,
    /// Leases ended.
    pub revoked: Vec<LeaseId>,
    /// The new compacted revision.
    pub compacted: Option<Revision>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.deletes.is_empty()
            && self.granted.is_empty()
            && self.revoked.is_empty()
            && self.compacted.is_none()
    }
}

/// What a backend knows at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub compacted: Revision,
    pub leases: Vec<(LeaseId, i64)>,
}

/// Keeps records. Calls block; only the writer calls [`Backend::commit`].
pub(crate) trait Backend: Send + Sync + 'static {
    /// Name and version.
    fn name(&self) -> &'static str;
    /// Whether calls do IO, so that they must not run on the executor.
    fn blocks(&self) -> bool;
    /// Reads everything once, records ascending by id.
    fn load(&self, visit: &mut dyn FnMut(RecordHead<'_>)) -> Result<Loaded>;
    /// Makes a batch durable. When it fails, nothing of the batch is there.
    fn commit(&self, batch: &Batch) -> Result<()>;
    /// A consistent view; short-lived, and never two at once in one thread.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;
    /// Bytes on disk and bytes in use.
    fn size(&self) -> Result<(u64, u64)>;
}

/// A consistent view of a backend.
pub(crate) trait Reader {
    fn get(&self, id: RecordId) -> Result<Option<Record>>;
    /// Calls `visit` with records from `from` on until it returns false.
    fn scan(&self, from: RecordId, visit: &mut dyn FnMut(Record) -> bool) -> Result<()>;
}

/// Keeps records in memory, for simulation and tests.
#[derive(Debug, Default)]
pub(crate) struct Memory(RwLock<MemoryState>);

#[derive(Debug, Default)]
struct MemoryState {
    records: BTreeMap<RecordId, Record>,
    leases: BTreeMap<LeaseId, i64>,
    compacted: Revision,
    bytes: u64,
}

impl Backend for Memory {
    fn name(&self) -> &'static str {
        "corten-memory/1"
    }

    fn blocks(&self) -> bool {
        false
    }

    fn load(&self, visit: &mut dyn FnMut(RecordHead<'_>)) -> Result<Loaded> {
        let state = self.0.read();
        for record in state.records.values() {
            visit(RecordHead { id: record.id, key: &record.key, lease: record.lease, tombstone: record.tombstone });
        }
        let leases = state.leases.iter().map(|(id, ttl)| (*id, *ttl)).collect();
        Ok(Loaded { compacted: state.compacted, leases })
    }

    fn commit(&self, batch: &Batch) -> Result<()> {
        let mut state = self.0.write();
        for record in &batch.records {
            state.bytes += record.size() as u64;
            state.records.insert(record.id, record.clone());
        }
        for id in &batch.deletes {
            if let Some(record) = state.records.remove(id) {
                state.bytes -= record.size() as u64;
            }
        }
        state.leases.extend(batch.granted.iter().copied());
        for id in &batch.revoked {
            state.leases.remove(id);
        }
        state.compacted = batch.compacted.unwrap_or(state.compacted);
        Ok(())
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(MemoryReader(self.0.read())))
    }

    fn size(&self) -> Result<(u64, u64)> {
        let bytes = self.0.read().bytes;
        Ok((bytes, bytes))
    }
}

struct MemoryReader<'a>(RwLockReadGuard<'a, MemoryState>);

impl Reader for MemoryReader<'_> {
    fn get(&self, id: RecordId) -> Result<Option<Record>> {
        Ok(self.0.records.get(&id).cloned())
    }

    fn scan(&self, from: RecordId, visit: &mut dyn FnMut(Record) -> bool) -> Result<()> {
        for record in self.0.records.range(from..).map(|(_, record)| record) {
            if !visit(record.clone()) {
                break;
            }
        }
        Ok(())
    }
}
