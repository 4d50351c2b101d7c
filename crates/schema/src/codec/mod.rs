//! Protobuf, JSON and YAML turned into each other by the table.
//!
//! One walk over protobuf bytes ([`from_proto`]) feeds a [`Sink`](sink::Sink): a JSON text writer or a tree builder, so
//! that the streamed form and the tree cannot differ. One guided decoder ([`decode`]) reads JSON text or a tree with
//! Go's rules. One encoder ([`to_proto`]) writes the bytes that upstream's gogo code writes.

mod decode;
mod envelope;
mod error;
mod from_proto;
mod json_text;
mod list;
mod props;
mod scalars;
mod sink;
mod splice;
mod to_proto;
pub(crate) mod wire;
mod yaml;
mod zero;

#[cfg(test)]
mod tests;

pub use decode::{Decoded, decode_json, decode_json_as, decode_untyped_json, decode_value_as, normalize, normalize_as};
pub use envelope::{Envelope, MAGIC, open_envelope, write_envelope};
pub use error::Error;
pub use from_proto::{message_to_json, message_to_value, protobuf_to_json};
pub use list::{
    JsonListWriter, ListMeta, ProtobufListWriter, SplitList, json_watch_event, open_protobuf_watch_event,
    protobuf_list, protobuf_watch_event, split_protobuf_list,
};
pub use splice::{
    partial_object_metadata, partial_object_metadata_json, set_resource_version, write_with_resource_version,
};
pub use to_proto::{encode_message, encode_stored};
pub use yaml::{decode_untyped_yaml, decode_yaml, to_yaml, yaml_to_json};

pub(crate) use from_proto::{
    MessageIndex, Occurrences, first_int, map_entry, omitted, quantity, raw_json, read_value, scalar_text,
};

use crate::table::{TypeRef, lookup};

/// Result of a codec.
pub type Result<T> = std::result::Result<T, Error>;

/// Messages nest at most this deep; upstream's generated code has no limit, but its stack grows.
pub const MAX_DEPTH: usize = 128;

/// Decodes an enveloped object into a tree as upstream's JSON would show it.
///
/// # Errors
/// No envelope, an unknown kind, or malformed bytes.
pub fn decode_protobuf(bytes: &[u8]) -> Result<meta::Object> {
    let envelope = open_envelope(bytes)?;
    let kind = envelope.type_ref()?;
    let mut tree = message_to_value(kind, envelope.raw)?;
    tree.insert("apiVersion".into(), envelope.api_version.into());
    tree.insert("kind".into(), envelope.kind.into());
    Ok(meta::Object { body: tree })
}

/// As [`decode_protobuf`], for request bodies: a missing `apiVersion` or `kind` is taken from `default`.
///
/// # Errors
/// As there.
pub fn decode_protobuf_with_default(bytes: &[u8], default: &meta::GroupVersionKind) -> Result<meta::Object> {
    let envelope = open_envelope(bytes)?;
    let kind = if envelope.kind.is_empty() { default.kind.clone() } else { envelope.kind.to_owned() };
    let api_version = match envelope.api_version {
        "" => default.api_version(),
        given => given.to_owned(),
    };
    let mut tree = message_to_value(type_of(&api_version, &kind)?, envelope.raw)?;
    tree.insert("apiVersion".into(), api_version.into());
    tree.insert("kind".into(), kind.into());
    Ok(meta::Object { body: tree })
}

/// Encodes an object with upstream's envelope.
///
/// # Errors
/// An unknown kind, or a value of the wrong type.
pub fn encode_protobuf(object: &meta::Object) -> Result<Vec<u8>> {
    let kind = type_of(object.api_version(), object.kind())?;
    let raw = encode_message(kind, &object.body)?;
    Ok(write_envelope(object.api_version(), object.kind(), &raw))
}

/// Writes a tree as JSON text. The tree is written as it stands: [`normalize`] it first when it may miss Go's rules.
pub fn to_json(object: &meta::Object) -> Vec<u8> {
    // A tree of strings, numbers and maps with string keys cannot fail to serialise.
    serde_json::to_vec(&object.body).unwrap_or_default()
}

/// The struct of an `apiVersion` and `kind`.
///
/// # Errors
/// The table has no such kind.
pub fn type_of(api_version: &str, kind: &str) -> Result<TypeRef> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    lookup(group, version, kind)
        .ok_or_else(|| Error::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() })
}
