//! CNI's error object: a code of the specification, a message, and what caused it.

use serde_json::{Value, json};
use std::error::Error as StdError;

/// Codes of the specification (below 100), and libcni's.
pub mod code {
    /// The cniVersion is not known to the plugin.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or does not exist.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// A `CNI_*` variable is missing or wrong.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Input or output failed.
    pub const IO: u32 = 5;
    /// The configuration cannot be decoded.
    pub const DECODING: u32 = 6;
    /// The configuration is wrong.
    pub const INVALID_CONFIG: u32 = 7;
    /// The network namespace is wrong.
    pub const INVALID_NETNS: u32 = 8;
    /// STATUS: additions would fail now.
    pub const UNAVAILABLE: u32 = 50;
    /// Anything else.
    pub const INTERNAL: u32 = 999;
}

/// CNI's answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error as the specification defines it.
#[derive(Debug, thiserror::Error)]
#[error("{msg}")]
pub struct Error {
    /// Code, see [`code`].
    pub code: u32,
    /// One line.
    pub msg: String,
    /// What caused it; becomes `details`.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error without a source.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), source: None }
    }

    /// The configuration is wrong.
    pub fn config(msg: impl Into<String>) -> Self {
        Self::new(code::INVALID_CONFIG, msg)
    }

    /// Something failed underneath.
    pub fn internal(msg: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { code: code::INTERNAL, msg: msg.into(), source: Some(source.into()) }
    }

    /// A file could not be read or written.
    pub fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        Self { code: code::IO, msg: path.display().to_string(), source: Some(source.into()) }
    }

    /// The message followed by its causes.
    pub fn chain(&self) -> String {
        let details = self.details();
        if details.is_empty() { self.msg.clone() } else { format!("{}: {details}", self.msg) }
    }

    fn details(&self) -> String {
        let mut parts = Vec::new();
        let mut next: Option<&dyn StdError> = self.source.as_deref().map(|e| e as &dyn StdError);
        while let Some(e) = next {
            parts.push(e.to_string());
            next = e.source();
        }
        parts.join(": ")
    }

    /// The object that a plugin prints.
    pub fn to_json(&self, cni_version: &str) -> Value {
        let mut object = json!({ "cniVersion": cni_version, "code": self.code, "msg": self.msg });
        let details = self.details();
        if !details.is_empty() {
            object["details"] = Value::String(details);
        }
        object
    }

    /// Reads the object that a plugin printed.
    pub fn from_json(value: &Value) -> Option<Self> {
        let code = u32::try_from(value.get("code")?.as_u64()?).ok()?;
        let msg = value.get("msg").and_then(Value::as_str).unwrap_or_default();
        let details = value.get("details").and_then(Value::as_str).unwrap_or_default();
        let source = (!details.is_empty()).then(|| details.to_owned().into());
        Some(Self { code, msg: msg.to_owned(), source })
    }
}

/// Adds words to a failure of the layers below.
pub(crate) trait Context<T> {
    /// With these words as the message.
    fn context(self, msg: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: StdError + Send + Sync + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, msg: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::internal(msg(), e))
    }
}
