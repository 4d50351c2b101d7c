//! Applying transactions to a batch, before anything of it is durable.

use std::sync::Arc;

use super::{
    Core,
    backend::{Batch, Reader},
    hub::Commit,
    record::{Record, RecordId},
    view::View,
};
use crate::{Error, Event, KeyRange, KeyValue, LeaseId, Op, OpResponse, PutOp, Result, Revision, Txn, TxnResponse};

/// A batch under construction. Each transaction sees what the earlier ones of the batch did.
pub(crate) struct Applier<'a> {
    core: &'a Core,
    reader: Box<dyn Reader + 'a>,
    batch: Batch,
    commits: Vec<Arc<Commit>>,
    /// The revision that the next writing transaction gets.
    next: Revision,
    /// Changes of the running transaction.
    events: Vec<Event>,
}

/// Which branch each transaction takes, decided before any of them writes.
struct Choice {
    succeeded: bool,
    inner: Vec<Choice>,
}

impl<'a> Applier<'a> {
    pub fn new(core: &'a Core) -> Result<Self> {
        Ok(Self {
            core,
            reader: core.backend.reader()?,
            batch: Batch::default(),
            commits: Vec::new(),
            next: core.hub.head() + 1,
            events: Vec::new(),
        })
    }

    /// Ends the construction; the view of the backend is closed.
    pub fn finish(self) -> (Batch, Vec<Arc<Commit>>) {
        (self.batch, self.commits)
    }

    /// The revision after everything applied so far.
    pub fn head(&self) -> Revision {
        self.next - 1
    }

    pub fn batch_mut(&mut self) -> &mut Batch {
        &mut self.batch
    }

    fn view(&self) -> View<'_> {
        View { index: &self.core.index, reader: &*self.reader, pending: &self.batch.records }
    }

    /// Runs one transaction; when it fails, the batch is as before.
    pub fn txn(&mut self, txn: &Txn) -> Result<TxnResponse> {
        let first = self.batch.records.len();
        let result = self.choose(txn).and_then(|choice| self.run(txn, &choice));
        match result {
            Ok(mut response) => {
                self.seal();
                response.revision = self.head();
                Ok(response)
            }
            Err(error) => {
                self.events.clear();
                let mut index = self.core.index.write();
                for record in self.batch.records.drain(first..) {
                    index.pop(&record.key, record.id);
                }
                Err(error)
            }
        }
    }

    /// Deletes the keys of a lease and the lease.
    pub fn revoke(&mut self, id: LeaseId) -> Result<Revision> {
        let keys = {
            let lessor = self.core.lessor.lock();
            if !lessor.exists(id) {
                return Err(Error::LeaseNotFound(id));
            }
            lessor.keys(id)
        };
        for key in keys {
            self.delete(&KeyRange::key(key))?;
        }
        self.seal();
        self.batch.revoked.push(id);
        Ok(self.head())
    }

    /// Closes the revision of the running transaction, if it wrote something.
    fn seal(&mut self) {
        if !self.events.is_empty() {
            let events = std::mem::take(&mut self.events);
            self.commits.push(Arc::new(Commit { revision: self.next, events }));
            self.next += 1;
        }
    }

    fn choose(&self, txn: &Txn) -> Result<Choice> {
        let succeeded = self.view().all_hold(&txn.compares, self.head())?;
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let inner = ops.iter().filter_map(|op| if let Op::Txn(inner) = op { Some(self.choose(inner)) } else { None });
        Ok(Choice { succeeded, inner: inner.collect::<Result<_>>()? })
    }

    fn run(&mut self, txn: &Txn, choice: &Choice) -> Result<TxnResponse> {
        let ops = if choice.succeeded { &txn.success } else { &txn.failure };
        let mut inner = choice.inner.iter();
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Put(put) => OpResponse::Put { prev_kv: self.put(put)?.filter(|_| put.prev_kv) },
                Op::DeleteRange { range, prev_kv } => {
                    let deleted = self.delete(range)?;
                    let count = deleted.len() as i64;
                    OpResponse::DeleteRange { deleted: count, prev_kvs: if *prev_kv { deleted } else { Vec::new() } }
                }
                Op::Range(request) => {
                    // What the transaction itself wrote has the next revision.
                    let at = if self.events.is_empty() { self.head() } else { self.next };
                    OpResponse::Range(self.view().range(request, at)?)
                }
                Op::Txn(txn) => match inner.next() {
                    Some(choice) => OpResponse::Txn(self.run(txn, choice)?),
                    None => return Err(Error::Invalid("an inner transaction without a decision")),
                },
            });
        }
        let revision = if self.events.is_empty() { self.head() } else { self.next };
        Ok(TxnResponse { revision, succeeded: choice.succeeded, responses })
    }

    fn put(&mut self, put: &PutOp) -> Result<Option<KeyValue>> {
        let prev = self.view().current(&put.key, self.next)?;
        let (value, lease) = match &prev {
            None if put.ignore_value || put.ignore_lease => return Err(Error::KeyNotFound),
            None => (put.value.clone(), put.lease),
            Some(prev) => (
                if put.ignore_value { prev.value.clone() } else { put.value.clone() },
                if put.ignore_lease { prev.lease } else { put.lease },
            ),
        };
        if lease != 0 && !put.ignore_lease && !self.lease_exists(lease) {
            return Err(Error::LeaseNotFound(lease));
        }
        let record = Record {
            id: self.next_id(),
            key: put.key.clone(),
            value,
            create_revision: prev.as_ref().map_or(self.next, |prev| prev.create_revision),
            version: prev.as_ref().map_or(0, |prev| prev.version) + 1,
            lease,
            prev: prev.as_ref().map(|prev| prev.id),
            tombstone: false,
        };
        let prev_kv = prev.map(|prev| prev.kv());
        self.add(record, prev_kv.clone());
        Ok(prev_kv)
    }

    fn delete(&mut self, range: &KeyRange) -> Result<Vec<KeyValue>> {
        let mut deleted = Vec::new();
        for id in self.view().ids(range, self.next) {
            let prev = self.view().record(id)?;
            let record = Record {
                id: self.next_id(),
                key: prev.key.clone(),
                prev: Some(prev.id),
                tombstone: true,
                ..Record::default()
            };
            self.add(record, Some(prev.kv()));
            deleted.push(prev.kv());
        }
        Ok(deleted)
    }

    fn add(&mut self, record: Record, prev_kv: Option<KeyValue>) {
        self.core.index.write().push(&record.key, record.id, record.tombstone);
        self.events.push(record.event(prev_kv));
        self.batch.records.push(record);
    }

    fn next_id(&self) -> RecordId {
        // The number of changes in a transaction is bounded by the number of keys in memory.
        RecordId { revision: self.next, sub: self.events.len() as u32 }
    }

    /// Whether a lease exists, also one granted by an earlier request of the batch.
    pub fn lease_exists(&self, id: LeaseId) -> bool {
        self.batch.granted.iter().any(|(granted, _)| *granted == id) || self.core.lessor.lock().exists(id)
    }

    /// Takes the whole batch back out of the index.
    pub fn undo(core: &Core, batch: &Batch) {
        let mut index = core.index.write();
        for record in &batch.records {
            index.pop(&record.key, record.id);
        }
    }

    /// Notes which lease now holds which key.
    pub fn attach(core: &Core, batch: &Batch) {
        let mut lessor = core.lessor.lock();
        for (id, ttl) in &batch.granted {
            lessor.grant(*id, *ttl);
        }
        for record in &batch.records {
            lessor.attach(&record.key, record.lease);
        }
        for id in &batch.revoked {
            lessor.revoke(*id);
        }
    }
}
