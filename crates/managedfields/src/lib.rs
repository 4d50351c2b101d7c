//! Server-side apply and strategic merge.
//!
//! Server-side apply follows structured-merge-diff: an object is seen through a [`Shape`] (from the schema table, from a
//! custom resource's schema, or deduced), every manager owns a [`Set`] of field paths, and [`FieldManager`] keeps those
//! sets in `metadata.managedFields` as objects are created, updated and applied.
//!
//! [`strategic`] is the older patch format, driven by the same table.

mod custom;
mod element;
mod fields_v1;
mod manager;
mod set;
mod shape;
pub mod strategic;
mod typed;
mod updater;
mod value;

pub use custom::custom_shape;
pub use element::PathElement;
pub use fields_v1::{FieldsError, from_fields_v1, to_fields_v1};
pub use manager::{
    ApplyError, BuiltIn, FieldManager, decode_managed_fields, ignore_timestamp_changes, revert_invalid_managed_fields,
    strip_managed_fields,
};
pub use set::Set;
pub use shape::{Atom, ListKind, MapKind, ScalarKind, Shape, TypeShape};
pub use updater::{Conflict, Versions};
