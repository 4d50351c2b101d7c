//! One change of one key, and its form on disk.
//!
//! ```text
//! offset  size
//!      0     1  kind: 1 put, 2 tombstone
//!      1     3  zero
//!      4     4  CRC-32 of everything from offset 12 up to the end of the key, and of the kind
//!      8     4  CRC-32 of the value
//!     12     8  create revision
//!     20     8  version
//!     28     8  revision of the previous record of the key, 0 if none
//!     36     4  its sub
//!     40     8  lease
//!     48     4  length of the key
//!     52     …  key, then value
//! ```
//! Integers are little-endian; the record's own id is its database key, 12 bytes big-endian, so that the order of
//! the database is the order of history.

use bytes::Bytes;

use crate::{Error, Event, EventKind, Key, KeyValue, LeaseId, Result, Revision, Value};

const HEAD: usize = 52;
const PUT: u8 = 1;
const TOMBSTONE: u8 = 2;

/// Names one record: its revision, and its place among the changes of that revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct RecordId {
    pub revision: Revision,
    pub sub: u32,
}

impl RecordId {
    /// The first possible record of a revision.
    pub fn first_of(revision: Revision) -> Self {
        Self { revision, sub: 0 }
    }

    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.revision.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bytes: [u8; 12] =
            bytes.try_into().map_err(|_| Error::Corrupt { revision: 0, what: "record id has a wrong length" })?;
        Ok(Self { revision: i64_at(&bytes, 0, i64::from_be_bytes), sub: u32_at(&bytes, 8, u32::from_be_bytes) })
    }
}

/// What the key index needs of a record.
#[derive(Debug)]
pub(crate) struct RecordHead<'a> {
    pub id: RecordId,
    pub key: &'a [u8],
    pub lease: LeaseId,
    pub tombstone: bool,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Record {
    pub id: RecordId,
    pub key: Key,
    pub value: Value,
    pub create_revision: Revision,
    pub version: i64,
    pub lease: LeaseId,
    /// The record that this one replaced; none if the key was created.
    pub prev: Option<RecordId>,
    pub tombstone: bool,
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let prev = self.prev.unwrap_or_default();
        let mut out = Vec::with_capacity(HEAD + self.key.len() + self.value.len());
        out.extend_from_slice(&[if self.tombstone { TOMBSTONE } else { PUT }, 0, 0, 0]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&crc32fast::hash(&self.value).to_le_bytes());
        out.extend_from_slice(&self.create_revision.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&prev.revision.to_le_bytes());
        out.extend_from_slice(&prev.sub.to_le_bytes());
        out.extend_from_slice(&self.lease.to_le_bytes());
        // A request is limited to far less than 4 GiB.
        out.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.key);
        let crc = head_crc(&out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&self.value);
        out
    }

    /// Reads the part before the value, without touching the pages of a large value.
    pub fn decode_head(id: RecordId, raw: &[u8]) -> Result<RecordHead<'_>> {
        let key = checked_key(id, raw)?;
        Ok(RecordHead { id, key, lease: i64_at(raw, 40, i64::from_le_bytes), tombstone: raw[0] == TOMBSTONE })
    }

    pub fn decode(id: RecordId, raw: &[u8]) -> Result<Self> {
        let key = checked_key(id, raw)?;
        let value = &raw[HEAD + key.len()..];
        if crc32fast::hash(value) != u32_at(raw, 8, u32::from_le_bytes) {
            return Err(Error::Corrupt { revision: id.revision, what: "checksum of the value does not match" });
        }
        let prev = RecordId { revision: i64_at(raw, 28, i64::from_le_bytes), sub: u32_at(raw, 36, u32::from_le_bytes) };
        Ok(Self {
            id,
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            create_revision: i64_at(raw, 12, i64::from_le_bytes),
            version: i64_at(raw, 20, i64::from_le_bytes),
            lease: i64_at(raw, 40, i64::from_le_bytes),
            prev: (prev.revision != 0).then_some(prev),
            tombstone: raw[0] == TOMBSTONE,
        })
    }

    /// The key as a reader sees it; meaningless for a tombstone.
    pub fn kv(&self) -> KeyValue {
        KeyValue {
            key: self.key.clone(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.id.revision,
            version: self.version,
            lease: self.lease,
        }
    }

    /// The change as a watcher sees it.
    pub fn event(&self, prev_kv: Option<KeyValue>) -> Event {
        if self.tombstone {
            let kv = KeyValue { key: self.key.clone(), mod_revision: self.id.revision, ..KeyValue::default() };
            Event { kind: EventKind::Delete, kv, prev_kv }
        } else {
            Event { kind: EventKind::Put, kv: self.kv(), prev_kv }
        }
    }

    /// Bytes it takes, roughly.
    pub fn size(&self) -> usize {
        HEAD + 12 + self.key.len() + self.value.len()
    }
}

fn head_crc(head_and_key: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head_and_key[..1]);
    crc.update(&head_and_key[12..]);
    crc.finalize()
}

fn checked_key(id: RecordId, raw: &[u8]) -> Result<&[u8]> {
    let corrupt = |what| Error::Corrupt { revision: id.revision, what };
    if raw.len() < HEAD {
        return Err(corrupt("record is shorter than its head"));
    }
    let end = HEAD + u32_at(raw, 48, u32::from_le_bytes) as usize;
    let key = raw.get(HEAD..end).ok_or_else(|| corrupt("record is shorter than its key"))?;
    if head_crc(&raw[..end]) != u32_at(raw, 4, u32::from_le_bytes) {
        return Err(corrupt("checksum of the head does not match"));
    }
    if raw[0] != PUT && raw[0] != TOMBSTONE {
        return Err(corrupt("unknown kind of record"));
    }
    Ok(key)
}

/// The caller has checked that `raw` is long enough.
fn i64_at(raw: &[u8], at: usize, convert: fn([u8; 8]) -> i64) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&raw[at..at + 8]);
    convert(bytes)
}

/// The caller has checked that `raw` is long enough.
fn u32_at(raw: &[u8], at: usize, convert: fn([u8; 4]) -> u32) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&raw[at..at + 4]);
    convert(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        Record {
            id: RecordId { revision: 7, sub: 1 },
            key: Bytes::from_static(b"/registry/pods/a"),
            value: Bytes::from_static(b"value"),
            create_revision: 3,
            version: 2,
            lease: 9,
            prev: Some(RecordId { revision: 3, sub: 0 }),
            tombstone: false,
        }
    }

    #[test]
    fn a_record_survives_its_encoding() {
        let record = sample();
        assert_eq!(Record::decode(record.id, &record.encode()).expect("decodes"), record);
        let tombstone = Record { tombstone: true, value: Bytes::new(), prev: None, ..sample() };
        assert_eq!(Record::decode(tombstone.id, &tombstone.encode()).expect("decodes"), tombstone);
        assert_eq!(RecordId::from_bytes(&record.id.to_bytes()).expect("decodes"), record.id);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sample().encode();
        for at in (0..good.len()).filter(|at| !(1..4).contains(at)) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(Record::decode(sample().id, &bad).is_err(), "byte {at}");
        }
        for length in 0..good.len() {
            assert!(Record::decode(sample().id, &good[..length]).is_err(), "length {length}");
        }
    }
}
