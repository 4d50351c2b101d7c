//! Leases: keys that end together.

use crate::{Key, Revision};

/// A lease's name; positive, 0 means none.
pub type LeaseId = i64;

/// A granted lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Seconds it lives after its grant or last keep-alive.
    pub ttl: i64,
    /// The store's revision at the time.
    pub revision: Revision,
}

/// What is left of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeaseStatus {
    /// Its id.
    pub id: LeaseId,
    /// Seconds that were granted.
    pub granted_ttl: i64,
    /// Whole seconds left; -1 if there is no such lease.
    pub remaining_ttl: i64,
    /// Its keys, if asked for.
    pub keys: Vec<Key>,
    /// The store's revision at the time.
    pub revision: Revision,
}
