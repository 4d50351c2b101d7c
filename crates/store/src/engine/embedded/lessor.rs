//! Leases in memory: when they end and which keys they hold.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use rt::time::Instant;

use crate::{Error, Key, LeaseId, LeaseStatus, Result};

/// etcd's upper bound for a time to live, in seconds.
pub(crate) const MAX_TTL: i64 = 9_000_000_000;

#[derive(Debug)]
struct State {
    ttl: i64,
    expires: Instant,
    keys: BTreeSet<Key>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lessor {
    leases: BTreeMap<LeaseId, State>,
    queue: BTreeSet<(Instant, LeaseId)>,
    holders: HashMap<Key, LeaseId>,
}

impl Lessor {
    /// Starts a lease; its full time begins now, also after a restart.
    pub fn grant(&mut self, id: LeaseId, ttl: i64) {
        let expires = end(ttl);
        self.queue.insert((expires, id));
        self.leases.insert(id, State { ttl, expires, keys: BTreeSet::new() });
    }

    /// Ends a lease; its keys are the caller's business.
    pub fn revoke(&mut self, id: LeaseId) {
        if let Some(state) = self.leases.remove(&id) {
            self.queue.remove(&(state.expires, id));
            for key in state.keys {
                self.holders.remove(&key);
            }
        }
    }

    pub fn exists(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Notes that `key` is now held by `lease`, or by none if 0.
    pub fn attach(&mut self, key: &[u8], lease: LeaseId) {
        if lease == 0 && self.holders.is_empty() {
            return;
        }
        if let Some(old) = self.holders.remove(key)
            && let Some(state) = self.leases.get_mut(&old)
        {
            state.keys.remove(key);
        }
        if let Some(state) = self.leases.get_mut(&lease) {
            // A copy: the key given may be a slice of a whole network frame.
            let key = Key::copy_from_slice(key);
            state.keys.insert(key.clone());
            self.holders.insert(key, lease);
        }
    }

    /// The keys of a lease, in order.
    pub fn keys(&self, id: LeaseId) -> Vec<Key> {
        self.leases.get(&id).map(|state| state.keys.iter().cloned().collect()).unwrap_or_default()
    }

    /// Starts the time of a lease anew. A lease that has run out does not come back, even if not yet removed.
    pub fn keep_alive(&mut self, id: LeaseId) -> Result<i64> {
        let state = self.leases.get_mut(&id).ok_or(Error::LeaseNotFound(id))?;
        if state.expires <= Instant::now() {
            return Err(Error::LeaseNotFound(id));
        }
        self.queue.remove(&(state.expires, id));
        state.expires = end(state.ttl);
        self.queue.insert((state.expires, id));
        Ok(state.ttl)
    }

    pub fn status(&self, id: LeaseId, keys: bool) -> LeaseStatus {
        let now = Instant::now();
        match self.leases.get(&id).filter(|state| state.expires > now) {
            None => LeaseStatus { id, remaining_ttl: -1, ..LeaseStatus::default() },
            Some(state) => LeaseStatus {
                id,
                granted_ttl: state.ttl,
                remaining_ttl: state.expires.duration_since(now).as_secs() as i64,
                keys: if keys { state.keys.iter().cloned().collect() } else { Vec::new() },
                revision: 0,
            },
        }
    }

    pub fn ids(&self) -> Vec<LeaseId> {
        self.leases.keys().copied().collect()
    }

    /// When the next lease ends.
    pub fn next_end(&self) -> Option<Instant> {
        self.queue.first().map(|(expires, _)| *expires)
    }

    /// Leases whose time is over, at most `limit`.
    pub fn ended(&self, limit: usize) -> Vec<LeaseId> {
        let now = Instant::now();
        self.queue.iter().take_while(|(expires, _)| *expires <= now).take(limit).map(|(_, id)| *id).collect()
    }
}

fn end(ttl: i64) -> Instant {
    // A time to live is between 1 and MAX_TTL; the clock may not reach as far as the longest ones.
    let now = Instant::now();
    now.checked_add(Duration::from_secs(ttl.clamp(1, MAX_TTL) as u64))
        .unwrap_or_else(|| now + Duration::from_secs(86_400 * 365 * 30))
}
