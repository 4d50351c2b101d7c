//! The table of every built-in type's fields, and the codecs it drives.
//!
//! [`table`](TypeRef) holds facts generated from upstream by `cargo xtask schema`; [`codec`] turns protobuf, JSON and
//! YAML into each other by it, with Go's rules for zero values, pointers and `omitempty`. Those rules live here and
//! nowhere else.

pub mod codec;
mod generated;
mod meta_view;
pub mod openapi;
mod serde_de;
mod table;

pub use meta_view::{MetaView, OwnerView, field_text, message_field_text, meta_view};
pub use serde_de::{DeError, Deserializer};
pub use table::{Card, Elem, Field, KindRef, ListType, TypeRef, kinds, type_by_gvk, type_by_name, types};
