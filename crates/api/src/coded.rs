//! Typed forms from and to bytes and trees.

use k8s_openapi::Resource;
use meta::Object;
use schema::codec;
use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

/// Bytes or a tree that do not form the kind.
#[derive(Debug, thiserror::Error)]
#[error("decode {kind}")]
pub struct DecodeError {
    /// The kind that was expected.
    pub kind: &'static str,
    /// What was wrong.
    #[source]
    pub source: serde_json::Error,
}

/// The encodings of a kind. Implemented in `kinds.rs`, once per kind and not generic, so that other crates call plain
/// functions instead of compiling serde code themselves.
pub trait Coded: Sized {
    /// Reads enveloped protobuf with no tree in between; `resource_version` is put in unless it is 0. `managedFields`
    /// are left out, as in [`Coded::decode_message`]: nobody reads them in typed forms, and an update without them keeps
    /// those that are stored.
    ///
    /// # Errors
    /// The bytes are malformed or of another kind.
    fn decode(bytes: &[u8], resource_version: u64) -> Result<Self, DecodeError>;

    /// Reads a bare message, such as an item of a protobuf list.
    ///
    /// # Errors
    /// The bytes are malformed.
    fn decode_message(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// Reads a tree; `apiVersion` and `kind` may be missing, as in the items of lists.
    ///
    /// # Errors
    /// The tree is not of this kind.
    fn from_tree(object: &Object) -> Result<Self, DecodeError>;

    /// Writes a tree with `apiVersion` and `kind`.
    ///
    /// # Errors
    /// A time that RFC 3339 cannot hold.
    fn to_tree(&self) -> Result<Object, DecodeError>;
}

/// Reads enveloped protobuf; `resource_version` is put in unless it is 0.
///
/// # Errors
/// The bytes are malformed or of another kind.
pub fn decode<T: Coded>(bytes: &[u8], resource_version: u64) -> Result<T, DecodeError> {
    T::decode(bytes, resource_version)
}

/// Reads a kind from JSON.
///
/// # Errors
/// The bytes are not JSON of this kind.
pub fn from_json<T: Coded>(bytes: &[u8]) -> Result<T, DecodeError> {
    match serde_json::from_slice(bytes) {
        Ok(body) => T::from_tree(&Object { body }),
        Err(source) => Err(DecodeError { kind: "object", source }),
    }
}

/// Reads a kind from a tree.
///
/// # Errors
/// The tree is not of this kind.
pub fn from_value<T: Coded>(value: Value) -> Result<T, DecodeError> {
    match Object::from_value(value) {
        Some(object) => T::from_tree(&object),
        None => Err(DecodeError { kind: "object", source: serde_json::Error::custom("not a JSON object") }),
    }
}

/// Reads a kind from an object.
///
/// # Errors
/// The object is not of this kind.
pub fn from_object<T: Coded>(object: Object) -> Result<T, DecodeError> {
    T::from_tree(&object)
}

/// The tree of a typed object, `apiVersion` and `kind` included.
///
/// # Errors
/// A time that RFC 3339 cannot hold.
pub fn to_object<T: Coded>(object: &T) -> Result<Object, DecodeError> {
    object.to_tree()
}

/// Enveloped protobuf of a typed object, as upstream would write it.
///
/// # Errors
/// A value that the wire cannot hold.
pub fn encode_protobuf<T: Coded>(object: &T) -> Result<Vec<u8>, DecodeError> {
    let tree = object.to_tree()?;
    codec::encode_protobuf(&tree).map_err(|e| DecodeError { kind: "object", source: serde_json::Error::custom(e) })
}

/// The value of a typed quantity; a malformed one counts as zero, since the API server lets none through.
pub fn quantity(text: &crate::prelude::Quantity) -> meta::quantity::Quantity {
    text.0.parse().unwrap_or_default()
}

/// Reads a tree with the one deserializer; used by the rows of `kinds.rs`.
pub(crate) fn read_tree<T: DeserializeOwned + Resource>(object: &Object) -> Result<T, DecodeError> {
    let t = codec::type_of(T::API_VERSION, T::KIND).ok();
    T::deserialize(schema::Deserializer::from_tree(&object.body, t)).map_err(|e| wrap(T::KIND, &e))
}

/// Reads protobuf with the one deserializer; used by the rows of `kinds.rs`.
pub(crate) fn read_protobuf<T: DeserializeOwned>(
    kind: &'static str,
    bytes: &[u8],
    resource_version: u64,
) -> Result<T, DecodeError> {
    let deserializer =
        schema::Deserializer::from_protobuf(bytes, resource_version).map_err(|e| wrap(kind, &e.into()))?;
    T::deserialize(deserializer.without_managed_fields()).map_err(|e| wrap(kind, &e))
}

/// Reads a bare message with the one deserializer; used by the rows of `kinds.rs`.
pub(crate) fn read_message<T: DeserializeOwned + Resource>(bytes: &[u8]) -> Result<T, DecodeError> {
    let t = codec::type_of(T::API_VERSION, T::KIND).map_err(|e| wrap(T::KIND, &e.into()))?;
    let deserializer = schema::Deserializer::from_message(t, bytes, 0).without_managed_fields();
    T::deserialize(deserializer).map_err(|e| wrap(T::KIND, &e))
}

fn wrap(kind: &'static str, error: &schema::DeError) -> DecodeError {
    let source = match error {
        schema::DeError::Codec(inner) => serde_json::Error::custom(inner),
        other => serde_json::Error::custom(other),
    };
    DecodeError { kind, source }
}

/// Writes a tree; used by the rows of `kinds.rs`.
pub(crate) fn write_tree<T: Serialize>(kind: &'static str, value: &T) -> Result<Object, DecodeError> {
    match serde_json::to_value(value) {
        Ok(Value::Object(body)) => Ok(Object { body }),
        Ok(_) => Ok(Object::default()),
        Err(source) => Err(DecodeError { kind, source }),
    }
}
