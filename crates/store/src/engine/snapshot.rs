//! Snapshots: the living keys and leases of one revision in a file, whatever the engine.
//!
//! ```text
//! "CORTSNAP" version:u32 revision:i64
//! frames: 1 key:bytes value:bytes create:i64 mod:i64 version:i64 lease:i64     (bytes = length:u32, then the bytes)
//!         2 lease:i64 seconds:i64
//!         0 frames:u64 crc32:u32        (the end; the checksum is over everything before it)
//! ```
//! Integers are little-endian. The history before the revision is not kept: the restored store is compacted there.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use bytes::Bytes;

use super::embedded;
use crate::{Error, KeyRange, KeyValue, LeaseId, RangeRequest, Result, Revision, Store};

const MAGIC: &[u8; 8] = b"CORTSNAP";
const VERSION: u32 = 1;
const END: u8 = 0;
const KEY: u8 = 1;
const LEASE: u8 = 2;
/// Keys read at a time.
const PAGE: usize = 1000;
/// Writes at once when a revision is lifted.
const LIFT_STEP: i64 = 256;
/// Longest key or value believed when reading.
const MAX_BYTES: u32 = 1 << 30;

/// Writes a snapshot of any store, page by page at one revision. The file must not exist.
pub(crate) async fn save(store: &dyn Store, path: &Path) -> Result<Revision> {
    let revision = store.current_revision().await?;
    let mut out = Writer::create(path, revision)?;
    for id in store.lease_list().await? {
        let lease = store.lease_time_to_live(id, false).await?;
        if lease.remaining_ttl >= 0 {
            out.lease(id, lease.granted_ttl)?;
        }
    }
    let mut from = Bytes::new();
    loop {
        let page = store.range(RangeRequest::new(KeyRange::from(from)).at(revision).limit(PAGE)).await?;
        for kv in &page.kvs {
            out.key(kv)?;
        }
        match page.kvs.last() {
            Some(last) if page.more => from = [&last.key[..], &[0]].concat().into(),
            _ => break,
        }
    }
    out.finish()?;
    Ok(revision)
}

/// Makes a new data directory for the embedded engine from a snapshot, and returns its revision.
///
/// The revision becomes at least `min_revision`, so that clients of a store that was ahead see no step back.
///
/// # Errors
/// [`Error::Corrupt`] if the file is damaged, [`Error::FormatTooNew`], [`Error::Invalid`] if the directory has data.
pub fn restore(path: &Path, dir: &Path, min_revision: Revision) -> Result<Revision> {
    let (mut revision, kvs, leases) = read(path)?;
    revision = revision.max(min_revision);
    embedded::import(dir, revision, kvs.into_iter().map(Ok), leases)?;
    Ok(revision)
}

/// Fills an empty store of any engine from a snapshot, and returns its revision, which is not below the snapshot's.
///
/// Keys are written in the order of their last changes; how often they were changed before is lost. To lift the
/// revision, an etcd is written to as often as it lacks revisions, which takes a while for a large distance.
///
/// # Errors
/// [`Error::Invalid`] if the store has keys, [`Error::Corrupt`] if the file is damaged, or the engine's.
pub async fn load_into(store: &dyn Store, path: &Path) -> Result<Revision> {
    if store.range(RangeRequest::new(KeyRange::all()).count_only()).await?.count > 0 {
        return Err(Error::Invalid("the store to fill is not empty"));
    }
    let (revision, mut kvs, leases) = read(path)?;
    for (id, ttl) in leases {
        store.lease_grant(ttl, id).await?;
    }
    kvs.sort_by(|a, b| (a.mod_revision, &a.key).cmp(&(b.mod_revision, &b.key)));
    for kv in kvs {
        store.put(kv.key, kv.value, kv.lease).await?;
    }
    lift(store, revision).await?;
    let head = store.current_revision().await?;
    store.compact(head).await?;
    Ok(head)
}

/// Writes until the store is at `revision`.
async fn lift(store: &dyn Store, revision: Revision) -> Result<()> {
    let filler = Bytes::from_static(b"corten/lift");
    let mut at = store.current_revision().await?;
    if at >= revision {
        return Ok(());
    }
    while at < revision {
        let missing = (revision - at).min(LIFT_STEP);
        let writes = (0..missing).map(|_| store.put(filler.clone(), Bytes::new(), 0));
        futures::future::try_join_all(writes).await?;
        at = store.current_revision().await?;
    }
    let remove = crate::Txn { success: vec![crate::Op::delete(filler)], ..crate::Txn::default() };
    store.txn(remove).await?;
    Ok(())
}

struct Writer<'a> {
    path: &'a Path,
    out: BufWriter<File>,
    crc: crc32fast::Hasher,
    frames: u64,
}

impl<'a> Writer<'a> {
    fn create(path: &'a Path, revision: Revision) -> Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| Error::io("create snapshot", path, source))?;
        let mut writer = Self { path, out: BufWriter::new(file), crc: crc32fast::Hasher::new(), frames: 0 };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        writer.put(&revision.to_le_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.out.write_all(bytes).map_err(|source| Error::io("write snapshot", self.path, source))
    }

    fn block(&mut self, bytes: &[u8]) -> Result<()> {
        self.put(&(bytes.len() as u32).to_le_bytes())?;
        self.put(bytes)
    }

    fn key(&mut self, kv: &KeyValue) -> Result<()> {
        self.put(&[KEY])?;
        self.block(&kv.key)?;
        self.block(&kv.value)?;
        for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
            self.put(&number.to_le_bytes())?;
        }
        self.frames += 1;
        Ok(())
    }

    fn lease(&mut self, id: LeaseId, ttl: i64) -> Result<()> {
        self.put(&[LEASE])?;
        self.put(&id.to_le_bytes())?;
        self.put(&ttl.to_le_bytes())?;
        self.frames += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.put(&[END])?;
        self.put(&self.frames.to_le_bytes())?;
        let crc = self.crc.clone().finalize();
        self.put(&crc.to_le_bytes())?;
        let failed = |source| Error::io("write snapshot", self.path, source);
        self.out.flush().map_err(failed)?;
        self.out.get_ref().sync_all().map_err(failed)
    }
}

struct Reader<'a> {
    path: &'a Path,
    input: BufReader<File>,
    crc: crc32fast::Hasher,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|source| Error::io("read snapshot", self.path, source))?;
        self.crc.update(&bytes);
        Ok(bytes)
    }

    fn int(&mut self) -> Result<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn block(&mut self) -> Result<Bytes> {
        let length = u32::from_le_bytes(self.take()?);
        if length > MAX_BYTES {
            return Err(damaged("a length is out of range"));
        }
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(u64::from(length)).read_to_end(&mut bytes);
        let read = read.map_err(|source| Error::io("read snapshot", self.path, source))?;
        if read != length as usize {
            return Err(damaged("the snapshot ends early"));
        }
        self.crc.update(&bytes);
        Ok(bytes.into())
    }
}

fn damaged(what: &'static str) -> Error {
    Error::Corrupt { revision: 0, what }
}

type Contents = (Revision, Vec<KeyValue>, Vec<(LeaseId, i64)>);

fn read(path: &Path) -> Result<Contents> {
    let file = File::open(path).map_err(|source| Error::io("open snapshot", path, source))?;
    let mut input = Reader { path, input: BufReader::new(file), crc: crc32fast::Hasher::new() };
    if input.take()? != *MAGIC {
        return Err(damaged("not a snapshot"));
    }
    let found = u32::from_le_bytes(input.take()?);
    if found > VERSION {
        return Err(Error::FormatTooNew { found, supported: VERSION });
    }
    let revision = input.int()?;
    let (mut kvs, mut leases) = (Vec::new(), Vec::new());
    loop {
        match input.take::<1>()?[0] {
            KEY => kvs.push(KeyValue {
                key: input.block()?,
                value: input.block()?,
                create_revision: input.int()?,
                mod_revision: input.int()?,
                version: input.int()?,
                lease: input.int()?,
            }),
            LEASE => leases.push((input.int()?, input.int()?)),
            END => break,
            _ => return Err(damaged("unknown frame in the snapshot")),
        }
    }
    let frames = u64::from_le_bytes(input.take()?);
    let expected = input.crc.clone().finalize();
    let crc = u32::from_le_bytes(input.take()?);
    if frames != (kvs.len() + leases.len()) as u64 || crc != expected {
        return Err(damaged("checksum of the snapshot does not match"));
    }
    Ok((revision, kvs, leases))
}
