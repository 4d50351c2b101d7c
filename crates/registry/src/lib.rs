//! Generic REST storage over `store`: strategy and watch cache.
//!
//! A kind is a [`KindRow`]; [`Registry`] holds the storage of every row. No typed kinds here: objects are bytes as stored, or
//! [`meta::Object`] trees.

mod admit;
pub mod names;
mod registry;
mod row;
mod strategy;

pub use admit::{Admit, AdmitAll, Attributes, Operation, Warnings};
pub use registry::Registry;
pub use row::{Backing, Convert, CustomCodec, KindRow, ScalePaths, StoredMedia, Sub, SubresourceRow, Verbs};
pub use strategy::{Column, Ctx, FieldSource, Finish, Graceful, Hooks, Plain, SelectableField, Strategy};
