//! Records on disk, in LMDB.
//!
//! Databases: `records` (record id → record), `leases` (id → seconds), `meta` (`format`, `compacted`). A commit is
//! LMDB's: data pages, fdatasync, then the meta page written synchronously; what a torn write leaves is the old state.
//! The map grows by doubling: that needs a moment without readers, which the `map` lock gives.
#![allow(unsafe_code)]

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use heed::{
    CompactionOption, Database, Env, EnvOpenOptions, MdbError, PutFlags, RoTxn, RwTxn, WithoutTls,
    types::{Bytes as RawBytes, Str},
};
use parking_lot::{RwLock, RwLockReadGuard};

use super::{
    backend::{Backend, Batch, Loaded, Reader},
    record::{Record, RecordHead, RecordId},
};
use crate::{Error, Result};

/// The newest format that this program reads, and the one it writes.
const FORMAT: u32 = 1;
/// Concurrent views; more than the executor's threads and its blocking pool together.
const MAX_READERS: u32 = 1024;
const GIB: usize = 1 << 30;
/// Files below this size stay as they are.
const WORTH_SHRINKING: usize = 8 << 20;

type Raw = Database<RawBytes, RawBytes>;

/// See the module.
pub(crate) struct Lmdb {
    env: Env<WithoutTls>,
    records: Raw,
    leases: Raw,
    meta: Database<Str, RawBytes>,
    /// Held shared while a transaction lives, exclusively while the map is resized.
    map: RwLock<usize>,
    /// Refuse writes that would grow the map above this; 0 is no limit.
    quota: u64,
    path: PathBuf,
    /// Locked against a second process; released by the system when this one ends.
    _lock: File,
}

impl Lmdb {
    /// Opens or creates the database in `dir`.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::FormatTooNew`], [`Error::Io`], [`Error::Engine`].
    pub fn open(dir: &Path, quota: u64) -> Result<Self> {
        Self::open_with_map(dir, quota, GIB)
    }

    /// As [`Lmdb::open`], with a map of at least `map` bytes, a multiple of the page size, to begin with.
    fn open_with_map(dir: &Path, quota: u64, map: usize) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| Error::io("create data directory", dir, source))?;
        let lock = lock(dir)?;
        let data = dir.join("data.mdb");
        let existing = std::fs::metadata(&data).map(|meta| meta.len() as usize).unwrap_or(0);
        let size = existing.saturating_mul(2).max(map).next_multiple_of(map);
        let env = open_env(dir, size)?;
        let env = if wasteful(&env, existing)? { shrink(dir, env, size)? } else { env };
        let mut txn = env.write_txn().map_err(|source| failed("begin", source))?;
        let create = |txn: &mut RwTxn<'_>, name| {
            env.create_database(txn, Some(name)).map_err(|source| failed("open a table", source))
        };
        let records = create(&mut txn, "records")?;
        let leases = create(&mut txn, "leases")?;
        let meta = create(&mut txn, "meta")?.remap_key_type::<Str>();
        check_format(&mut txn, meta)?;
        txn.commit().map_err(|source| failed("commit", source))?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| Error::io("sync directory", dir, source))?;
        Ok(Self { env, records, leases, meta, map: RwLock::new(size), quota, path: data, _lock: lock })
    }

    fn try_commit(&self, batch: &Batch) -> Result<(), heed::Error> {
        let _map = self.map.read();
        let mut txn = self.env.write_txn()?;
        for record in &batch.records {
            // Ids only grow, so pages fill from left to right and are not split in the middle.
            self.records.put_with_flags(&mut txn, PutFlags::APPEND, &record.id.to_bytes(), &record.encode())?;
        }
        for id in &batch.deletes {
            self.records.delete(&mut txn, &id.to_bytes())?;
        }
        for (id, ttl) in &batch.granted {
            self.leases.put(&mut txn, &id.to_be_bytes(), &ttl.to_le_bytes())?;
        }
        for id in &batch.revoked {
            self.leases.delete(&mut txn, &id.to_be_bytes())?;
        }
        if let Some(revision) = batch.compacted {
            self.meta.put(&mut txn, "compacted", &revision.to_le_bytes())?;
        }
        txn.commit()
    }

    fn grow(&self) -> Result<()> {
        let mut size = self.map.write();
        let wanted = size.saturating_mul(2);
        // SAFETY: every transaction of this process holds `map` shared while it lives, and we hold it exclusively.
        unsafe { self.env.resize(wanted) }.map_err(|source| failed("grow the map", source))?;
        tracing::info!(from = *size, to = wanted, "grew the database map");
        *size = wanted;
        Ok(())
    }

    fn file_size(&self) -> Result<u64> {
        let meta = std::fs::metadata(&self.path).map_err(|source| Error::io("stat", &self.path, source))?;
        Ok(meta.len())
    }

    fn check_quota(&self, batch: &Batch) -> Result<()> {
        // Ending leases and compacting must stay possible when the quota is reached: they make room.
        if self.quota == 0 || batch.records.iter().all(|record| record.tombstone) {
            return Ok(());
        }
        let new: usize = batch.records.iter().map(Record::size).sum();
        let (_, used) = self.size()?;
        if used + new as u64 > self.quota { Err(Error::NoSpace) } else { Ok(()) }
    }
}

/// The caller holds the lock of the directory.
fn open_env(dir: &Path, size: usize) -> Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size).max_readers(MAX_READERS).max_dbs(3);
    // SAFETY: the map's file is ours alone: the lock keeps other processes of this program out, the directory is
    // private, and nothing in this crate writes the file but LMDB.
    unsafe { options.open(dir) }.map_err(|source| failed("open the database", source))
}

/// Whether so much of the file is free that rewriting it pays. LMDB uses free pages again but never gives them back.
fn wasteful(env: &Env<WithoutTls>, file_size: usize) -> Result<bool> {
    let used = env.non_free_pages_size().map_err(|source| failed("measure", source))?;
    Ok(file_size > WORTH_SHRINKING && used < file_size as u64 / 4)
}

/// Replaces the file by a copy without the free pages. When that fails, for want of space say, the old one stays.
fn shrink(dir: &Path, env: Env<WithoutTls>, size: usize) -> Result<Env<WithoutTls>> {
    let copy = dir.join("data.mdb.new");
    match write_copy(&env, &copy) {
        Ok(()) => {
            env.prepare_for_closing().wait();
            let data = dir.join("data.mdb");
            std::fs::rename(&copy, &data).map_err(|source| Error::io("replace", data, source))?;
            tracing::info!("rewrote the database without its free pages");
            open_env(dir, size)
        }
        Err(error) => {
            tracing::warn!(%error, "the database has many free pages and could not be rewritten");
            // It may not have been created.
            let _ = std::fs::remove_file(&copy);
            Ok(env)
        }
    }
}

fn write_copy(env: &Env<WithoutTls>, path: &Path) -> Result<()> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).read(true).mode(0o600).open(path);
    let mut file = file.map_err(|source| Error::io("create", path, source))?;
    env.copy_to_file(&mut file, CompactionOption::Enabled).map_err(|source| failed("copy", source))?;
    file.sync_all().map_err(|source| Error::io("sync", path, source))
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("corten.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| Error::io("open lock file", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", path, source)),
    }
}

fn check_format(txn: &mut RwTxn<'_>, meta: Database<Str, RawBytes>) -> Result<()> {
    let found = meta.get(txn, "format").map_err(|source| failed("read the format", source))?;
    match found.map(<[u8; 4]>::try_from) {
        None => meta.put(txn, "format", &FORMAT.to_le_bytes()).map_err(|source| failed("write the format", source)),
        Some(Ok(bytes)) if u32::from_le_bytes(bytes) <= FORMAT => Ok(()),
        Some(Ok(bytes)) => Err(Error::FormatTooNew { found: u32::from_le_bytes(bytes), supported: FORMAT }),
        Some(Err(_)) => Err(Error::Corrupt { revision: 0, what: "format version has a wrong length" }),
    }
}

fn failed(action: &'static str, source: heed::Error) -> Error {
    match &source {
        heed::Error::Mdb(MdbError::MapFull) => Error::NoSpace,
        heed::Error::Io(io)
            if matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) =>
        {
            Error::NoSpace
        }
        _ => Error::engine(action, source),
    }
}

fn int(bytes: &[u8], what: &'static str) -> Result<i64> {
    bytes.try_into().map(i64::from_le_bytes).map_err(|_| Error::Corrupt { revision: 0, what })
}

impl Backend for Lmdb {
    fn name(&self) -> &'static str {
        "corten-lmdb/1"
    }

    fn blocks(&self) -> bool {
        true
    }

    fn load(&self, visit: &mut dyn FnMut(RecordHead<'_>)) -> Result<Loaded> {
        let _map = self.map.read();
        let reading = |source| failed("load", source);
        let txn = self.env.read_txn().map_err(reading)?;
        for item in self.records.iter(&txn).map_err(reading)? {
            let (id, raw) = item.map_err(reading)?;
            visit(Record::decode_head(RecordId::from_bytes(id)?, raw)?);
        }
        let mut leases = Vec::new();
        for item in self.leases.iter(&txn).map_err(reading)? {
            let (id, ttl) = item.map_err(reading)?;
            let id = id.try_into().map(i64::from_be_bytes);
            let id = id.map_err(|_| Error::Corrupt { revision: 0, what: "lease id has a wrong length" })?;
            leases.push((id, int(ttl, "lease seconds have a wrong length")?));
        }
        let compacted = match self.meta.get(&txn, "compacted").map_err(reading)? {
            Some(raw) => int(raw, "compacted revision has a wrong length")?,
            None => 0,
        };
        Ok(Loaded { compacted, leases })
    }

    fn commit(&self, batch: &Batch) -> Result<()> {
        self.check_quota(batch)?;
        loop {
            match self.try_commit(batch) {
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.grow()?,
                result => return result.map_err(|source| failed("commit", source)),
            }
        }
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        let map = self.map.read();
        let txn = self.env.read_txn().map_err(|source| failed("begin a read", source))?;
        Ok(Box::new(LmdbReader { records: self.records, txn, _map: map }))
    }

    fn size(&self) -> Result<(u64, u64)> {
        let _map = self.map.read();
        let used = self.env.non_free_pages_size().map_err(|source| failed("measure", source))?;
        Ok((self.file_size()?, used))
    }
}

/// The transaction is declared before the lock, so it ends first.
struct LmdbReader<'a> {
    records: Raw,
    txn: RoTxn<'a, WithoutTls>,
    _map: RwLockReadGuard<'a, usize>,
}

impl Reader for LmdbReader<'_> {
    fn get(&self, id: RecordId) -> Result<Option<Record>> {
        let raw = self.records.get(&self.txn, &id.to_bytes()).map_err(|source| failed("read", source))?;
        raw.map(|raw| Record::decode(id, raw)).transpose()
    }

    fn scan(&self, from: RecordId, visit: &mut dyn FnMut(Record) -> bool) -> Result<()> {
        let start = from.to_bytes();
        let range = (std::ops::Bound::Included(&start[..]), std::ops::Bound::Unbounded);
        for item in self.records.range(&self.txn, &range).map_err(|source| failed("scan", source))? {
            let (id, raw) = item.map_err(|source| failed("scan", source))?;
            if !visit(Record::decode(RecordId::from_bytes(id)?, raw)?) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(revision: i64, bytes: usize) -> Batch {
        let record = Record {
            id: RecordId::first_of(revision),
            key: format!("k{revision}").into(),
            value: vec![b'x'; bytes].into(),
            version: 1,
            ..Record::default()
        };
        Batch { records: vec![record], ..Batch::default() }
    }

    #[test]
    fn the_map_grows_under_readers() {
        let dir = tempfile::tempdir().expect("a directory");
        let lmdb = Lmdb::open_with_map(dir.path(), 0, 1 << 20).expect("open");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..100).for_each(|n| lmdb.commit(&batch(n, 100_000)).expect("commit")));
            while !writer.is_finished() {
                let reader = lmdb.reader().expect("a reader");
                let mut expected = 0;
                let mut visit = |record: Record| {
                    expected += 1;
                    record.id.revision == expected && record.value.len() == 100_000
                };
                reader.scan(RecordId::default(), &mut visit).expect("scan");
            }
        });
        assert!(*lmdb.map.read() >= 10 << 20);
        assert!(lmdb.reader().expect("a reader").get(RecordId::first_of(99)).expect("get").is_some());
    }

    #[test]
    fn the_quota_refuses_growth_but_not_deletion() {
        let dir = tempfile::tempdir().expect("a directory");
        let lmdb = Lmdb::open(dir.path(), 1 << 20).expect("open");
        lmdb.commit(&batch(2, 500_000)).expect("below the quota");
        assert!(matches!(lmdb.commit(&batch(3, 600_000)), Err(Error::NoSpace)));
        let tombstone = Record { id: RecordId::first_of(3), tombstone: true, ..Record::default() };
        lmdb.commit(&Batch { records: vec![tombstone], ..Batch::default() }).expect("a deletion");
        let cleaned = Batch { deletes: vec![RecordId::first_of(2)], ..Batch::default() };
        lmdb.commit(&cleaned).expect("a compaction");
        lmdb.commit(&batch(4, 600_000)).expect("there is room again");
    }

    #[test]
    fn free_pages_are_given_back_at_the_next_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let lmdb = Lmdb::open(dir.path(), 0).expect("open");
        (1..100).for_each(|n| lmdb.commit(&batch(n, 200_000)).expect("commit"));
        let deletes = (1..99).map(RecordId::first_of).collect();
        lmdb.commit(&Batch { deletes, ..Batch::default() }).expect("commit");
        let before = lmdb.size().expect("size").0;
        drop(lmdb);
        let lmdb = Lmdb::open(dir.path(), 0).expect("open again");
        let after = lmdb.size().expect("size").0;
        assert!(after < before / 10, "{before} bytes became {after}");
        let kept = lmdb.reader().expect("a reader").get(RecordId::first_of(99)).expect("get");
        assert_eq!(kept.map(|record| record.value.len()), Some(200_000));
        lmdb.commit(&batch(100, 10)).expect("commit");
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let lmdb = Lmdb::open(dir.path(), 0).expect("open");
        let mut txn = lmdb.env.write_txn().expect("begin");
        lmdb.meta.put(&mut txn, "format", &(FORMAT + 1).to_le_bytes()).expect("put");
        txn.commit().expect("commit");
        drop(lmdb);
        let error = Lmdb::open(dir.path(), 0).err();
        assert!(matches!(error, Some(Error::FormatTooNew { found: 2, supported: 1 })), "{error:?}");
    }
}
