//! Revisions, transactions, watch and leases; knows bytes, not kinds.
