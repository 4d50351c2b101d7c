//! The verbs, the same for every kind.

mod delete;
mod patch;
mod read;
mod watch;
mod write;

pub(crate) use delete::{delete, delete_collection, has_dry_run};
pub(crate) use patch::{PatchKind, apply_patch, patch, patch_kind};
pub(crate) use read::{get, list, list_options};
pub(crate) use watch::watch;
pub(crate) use write::{create, in_version, served_to_hub, update};
