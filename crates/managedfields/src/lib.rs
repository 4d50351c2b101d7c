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

/// A configuration merged into an object as apply merges it, without owners: nothing is removed.
///
/// # Errors
/// The configuration does not fit the shape.
pub fn merged(
    live: &serde_json::Value,
    config: &serde_json::Value,
    shape: &Shape,
) -> Result<serde_json::Value, String> {
    let text = |what: &str, errors: &typed::Errors| format!("failed to {what}: {}", typed::errors_text(errors));
    let errors = typed::validate(config, shape, false);
    if !errors.is_empty() {
        return Err(text("convert patch object to typed object", &errors));
    }
    typed::merge(live, config, shape).map_err(|e| text("merge patch", &e))
}
