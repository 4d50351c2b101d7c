//! Warnings about pods that are valid but surely not meant.

use meta::Object;

/// Warnings for the `Warning` header.
pub fn warnings(_pod: &Object) -> Vec<String> {
    Vec::new()
}
