//! Controllers of volumes and claims.

pub(crate) mod binder;
pub(crate) mod ephemeral;
pub(crate) mod protection;
