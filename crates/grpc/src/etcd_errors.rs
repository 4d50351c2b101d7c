//! The messages by which etcd tells its errors: clients, upstream's among them, know an error by code and message.

/// A key was empty.
pub const EMPTY_KEY: &str = "etcdserver: key is not provided";
/// A key must exist and does not.
pub const KEY_NOT_FOUND: &str = "etcdserver: key not found";
/// A value was given together with `ignore_value`.
pub const VALUE_PROVIDED: &str = "etcdserver: value is provided";
/// A lease was given together with `ignore_lease`.
pub const LEASE_PROVIDED: &str = "etcdserver: lease is provided";
/// More operations than allowed in a transaction.
pub const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
/// A transaction writes a key twice.
pub const DUPLICATE_KEY: &str = "etcdserver: duplicate key given in txn request";
/// The revision is below the last compaction.
pub const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// The revision is above the current one.
pub const FUTURE_REVISION: &str = "etcdserver: mvcc: required revision is a future revision";
/// The quota is used up.
pub const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";
/// There is no such lease.
pub const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";
/// There is such a lease already.
pub const LEASE_EXISTS: &str = "etcdserver: lease already exists";
/// The time to live is above the limit.
pub const LEASE_TTL_TOO_LARGE: &str = "etcdserver: too large lease TTL";
/// The request is above the limit in bytes.
pub const TOO_LARGE: &str = "etcdserver: request is too large";
/// A sort option that does not exist.
pub const INVALID_SORT: &str = "etcdserver: invalid sort option";
/// Authentication is not enabled.
pub const AUTH_NOT_ENABLED: &str = "etcdserver: authentication is not enabled";
/// The server is stopping.
pub const STOPPED: &str = "etcdserver: server stopped";
/// The server did not answer in time.
pub const TIMEOUT: &str = "etcdserver: request timed out";
/// The data are damaged.
pub const CORRUPT: &str = "etcdserver: corrupt cluster";
