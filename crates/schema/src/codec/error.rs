//! What can go wrong in a codec.

/// A codec's error. The texts of JSON errors are upstream's, since clients see them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes do not begin with upstream's envelope.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoEnvelope,
    /// The envelope names a kind that the table does not have.
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind {
        /// As it stands in the object.
        api_version: String,
        /// As it stands in the object.
        kind: String,
    },
    /// Malformed protobuf.
    #[error("proto: {0}")]
    Wire(&'static str),
    /// Messages or values nest too deep.
    #[error("exceeded max depth")]
    TooDeep,
    /// JSON of the wrong type for a field, in Go's words.
    #[error("{0}")]
    Json(String),
    /// A tree holds a value that its field cannot hold.
    #[error("field {field}: {message}")]
    Value {
        /// The field's JSON name.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// `kind` is missing.
    #[error("Object 'Kind' is missing in '{0}'")]
    MissingKind(String),
    /// `apiVersion` is missing.
    #[error("Object 'apiVersion' is missing in '{0}'")]
    MissingVersion(String),
    /// Malformed YAML.
    #[error("error converting YAML to JSON: {0}")]
    Yaml(String),
}

impl Error {
    pub(crate) fn value(field: &str, message: impl Into<String>) -> Self {
        Self::Value { field: field.to_owned(), message: message.into() }
    }
}
