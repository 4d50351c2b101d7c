//! Generic REST storage over `store`: strategy and watch cache.
//!
//! A kind is a [`KindRow`]; [`Registry`] holds the [`Resource`] (storage) of every row. No typed kinds here: objects are bytes as
//! stored ([`Raw`]), or [`meta::Object`] trees.

mod access;
mod admit;
pub mod backend;
mod cache;
mod compact;
mod create;
mod delete;
mod entry;
mod event;
mod listing;
mod masters;
pub mod names;
pub mod objectmeta;
mod ranges;
mod registry;
mod resource;
mod row;
mod scan;
mod seal;
mod strategy;
mod update;
mod watch;

pub use access::Access;
pub use admit::{Admit, AdmitAll, Annotate, Attributes, Operation, Warnings};
pub use cache::Cache;
pub use compact::{COMPACT_INTERVAL, compact_forever};
pub use create::{Request, ensure_namespace, wipe_system_fields};
pub use delete::{DeleteOptions, Deleted, Propagation};
pub use entry::{Entry, Raw, decode, decode_hub, encode};
pub use event::{CacheEvent, Change, EventType, FrameForm};
pub use listing::{ListOptions, VersionMatch, validate_list, validate_watch};
pub use masters::Masters;
pub use ranges::{NumberRange, Taken};
pub use registry::Registry;
pub use resource::{Listed, Resource};
pub use row::{Backing, Convert, CustomCodec, KindRow, ScalePaths, StoredMedia, Sub, SubresourceRow, Verbs};
pub use seal::{Opened, SealError, Sealer, Transformer};
pub use strategy::{Column, Ctx, FieldSource, Finish, Graceful, Hooks, Plain, SelectableField, Strategy};
pub use update::{UpdateOptions, Updated, Updater};
pub use watch::{Watch, WatchItem};

/// A store failure as clients get it.
pub(crate) fn storage_error(error: &store::Error) -> meta::Status {
    match error {
        store::Error::Compacted { requested, compacted } => {
            meta::Status::expired(format!("too old resource version: {requested} ({compacted})"))
        }
        store::Error::FutureRevision { requested, current } => cache::too_large_version(*requested, *current),
        store::Error::TooLarge { limit } => meta::Status::request_too_large(format!("limit is {limit}")),
        store::Error::Timeout | store::Error::Unavailable { .. } => meta::Status::timeout(error, 1),
        store::Error::Closed => meta::Status::service_unavailable("the store is shutting down"),
        store::Error::Engine { source, .. } => meta::Status::internal(format!("{error}: {source}")),
        other => meta::Status::internal(other),
    }
}

#[cfg(test)]
mod tests;
