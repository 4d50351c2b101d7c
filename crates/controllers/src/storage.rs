//! Controllers of volumes and claims.

pub(crate) mod attach_detach;
pub(crate) mod binder;
pub(crate) mod ephemeral;
pub(crate) mod expander;
pub(crate) mod local_path;
pub(crate) mod protection;
