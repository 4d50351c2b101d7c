//! Names and shapes that every room shares: GVK, `Object`, `Status`, selectors, quantities, patches.
//!
//! Nothing here does IO, knows a kind, or keeps a clock: values in, values out.

pub mod field;
mod gvk;
pub mod names;
mod object;
pub mod patch;
pub mod quantity;
pub mod selector;
mod status;
pub mod time;

pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use object::{Object, OwnerReference};
pub use status::{Status, StatusCause, StatusDetails, reason};
