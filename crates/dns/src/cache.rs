//! Forwarded answers, kept as bytes while their shortest time to live lasts, in a bounded number of bytes.

use crate::message::{HEADER, question_end, ttls};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Longest that anything is kept.
const MAX_TTL: u32 = 30;
/// Bookkeeping per entry, counted with its bytes.
const OVERHEAD: usize = 200;

/// The question as bytes in lower case, with what else changes an answer.
pub type Key = (Vec<u8>, u8);

/// The key of a request: name, type and class in lower case; whether signatures are wanted, and by what transport.
pub fn key(request: &[u8], dnssec: bool, tcp: bool) -> Option<Key> {
    let end = question_end(request)?;
    let checking = request[3] & 0x10 != 0;
    let name = request[HEADER..end - 4].to_ascii_lowercase();
    let question = [name.as_slice(), &request[end - 4..end]].concat();
    Some((question, u8::from(dnssec) | u8::from(checking) << 1 | u8::from(tcp) << 2))
}

struct Entry {
    bytes: Vec<u8>,
    stored: Instant,
    expires: Instant,
    order: u64,
}

/// The cache. The oldest entries go first when it is full.
pub struct Cache {
    entries: HashMap<Key, Entry>,
    by_age: BTreeMap<u64, Key>,
    size: usize,
    limit: usize,
    next: u64,
}

impl Cache {
    /// Keeping at most `limit` bytes; 0 keeps nothing.
    pub fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), by_age: BTreeMap::new(), size: 0, limit, next: 0 }
    }

    fn cost(key: &Key, bytes: &[u8]) -> usize {
        key.0.len() * 2 + bytes.len() + OVERHEAD
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_age.remove(&entry.order);
            self.size -= Self::cost(key, &entry.bytes);
        }
    }

    /// Keeps an answer if it may be kept: no failure, not truncated, with a time to live.
    pub fn put(&mut self, key: Key, bytes: &[u8], now: Instant) {
        let Some(times) = ttls(bytes) else { return };
        let code = bytes[3] & 15;
        let cut = bytes[2] & 2 != 0;
        let Some(shortest) = times.iter().map(|(_, ttl)| *ttl).min() else { return };
        let ttl = shortest.min(MAX_TTL);
        let cost = Self::cost(&key, bytes);
        if cut || !matches!(code, 0 | 3) || ttl == 0 || cost > self.limit {
            return;
        }
        self.remove(&key);
        while self.size + cost > self.limit {
            let Some((_, oldest)) = self.by_age.pop_first() else { break };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.size -= Self::cost(&oldest, &entry.bytes);
            }
        }
        self.next += 1;
        self.size += cost;
        self.by_age.insert(self.next, key.clone());
        let entry = Entry {
            bytes: bytes.to_vec(),
            stored: now,
            expires: now + Duration::from_secs(ttl.into()),
            order: self.next,
        };
        self.entries.insert(key, entry);
    }

    /// The answer to a request: its id and its question's case, times to live counted down.
    pub fn get(&mut self, key: &Key, request: &[u8], now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(key)?;
        if entry.expires <= now {
            self.remove(key);
            return None;
        }
        let age = u32::try_from(now.duration_since(entry.stored).as_secs()).unwrap_or(u32::MAX);
        let mut bytes = entry.bytes.clone();
        for (at, _) in ttls(&bytes)? {
            let old = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            bytes[at..at + 4].copy_from_slice(&old.saturating_sub(age).to_be_bytes());
        }
        let end = question_end(request)?;
        bytes[..2].copy_from_slice(&request[..2]);
        // The same name in the client's case: lengths are equal by the key.
        bytes.get_mut(HEADER..end)?.copy_from_slice(&request[HEADER..end]);
        // "Recursion desired" is the client's own bit.
        bytes[2] = (bytes[2] & !1) | (request[2] & 1);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::{Name, RData, Record, RecordType};

    fn query(name: &str) -> Message {
        let mut m = Message::query();
        m.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
        m
    }

    fn answer(name: &str, ttl: u32) -> Vec<u8> {
        let mut m = query(name).into_response();
        m.add_answer(Record::from_rdata(
            Name::from_ascii(name).unwrap(),
            ttl,
            RData::from(std::net::IpAddr::from([1, 2, 3, 4])),
        ));
        m.to_vec().unwrap()
    }

    #[test]
    fn keeps_counts_down_and_forgets() {
        let now = Instant::now();
        let mut cache = Cache::new(10_000);
        let request = query("WWW.example.org.").to_vec().unwrap();
        let k = key(&request, false, false).unwrap();
        cache.put(
            key(&query("www.Example.org.").to_vec().unwrap(), false, false).unwrap(),
            &answer("www.example.org.", 20),
            now,
        );
        let bytes = cache.get(&k, &request, now + Duration::from_secs(5)).unwrap();
        let got = Message::from_vec(&bytes).unwrap();
        assert_eq!((got.answers[0].ttl, bytes[..2] == request[..2]), (15, true));
        assert_eq!(&bytes[12..16], &request[12..16], "the client's case");
        assert!(cache.get(&k, &request, now + Duration::from_secs(21)).is_none());
        assert_eq!((cache.size, cache.entries.len(), cache.by_age.len()), (0, 0, 0));
        assert!(cache.get(&key(&request, true, false).unwrap(), &request, now).is_none());
        cache.put(k.clone(), &answer("www.example.org.", 0), now);
        let mut failure = answer("www.example.org.", 9);
        failure[3] |= 2;
        cache.put(k, &failure, now);
        assert!(cache.entries.is_empty());
    }

    #[test]
    fn is_bounded() {
        let now = Instant::now();
        let mut cache = Cache::new(3000);
        for i in 0..50 {
            let name = format!("n{i}.example.org.");
            cache.put(key(&query(&name).to_vec().unwrap(), false, false).unwrap(), &answer(&name, 20), now);
            assert!(cache.size <= 3000);
        }
        assert!(cache.entries.len() > 5);
        let newest = query("n49.example.org.").to_vec().unwrap();
        assert!(cache.get(&key(&newest, false, false).unwrap(), &newest, now).is_some());
    }
}
