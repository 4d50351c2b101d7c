//! From a pod's spec to what the runtime is asked for: pure functions, with everything they need passed in.

pub mod container;
pub mod dns;
pub mod env;
pub mod env_file;
pub mod expand;
pub mod hosts;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod service_env;

/// Why a configuration cannot be made; becomes `CreateContainerConfigError` with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl ConfigError {
    /// From any text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
