//! Conversion between versions of a custom resource.

use std::sync::Arc;

use meta::{GroupVersionKind, Object, Status};
use registry::Registry;
use serde_json::Value;

/// How a definition converts.
pub(super) struct Converter {
    webhook: bool,
}

impl Converter {
    /// Reads `spec.conversion`.
    pub fn new(spec: &Value, _registry: &Arc<Registry>) -> Self {
        Self { webhook: spec.pointer("/conversion/strategy").and_then(Value::as_str) == Some("Webhook") }
    }

    /// Converts an object.
    ///
    /// # Errors
    /// The definition wants a webhook, which is not there yet.
    pub fn convert(&self, object: &mut Object, to: &GroupVersionKind) -> Result<(), Status> {
        if object.gvk() == *to {
            return Ok(());
        }
        if self.webhook {
            return Err(Status::internal(format!(
                "conversion webhook for {} is not supported by this server",
                object.gvk()
            )));
        }
        object.set_gvk(to);
        Ok(())
    }
}
