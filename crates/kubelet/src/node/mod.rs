//! The node's own object: registration, status, lease.

pub mod lease;
pub mod machine;
pub mod status;
pub mod update;
