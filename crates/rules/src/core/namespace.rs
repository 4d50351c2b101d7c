//! Namespace.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

/// The label that carries the namespace's name, and the phase.
fn default(body: &mut Tree) {
    set_name_label(body);
    body.make("status").default_str("phase", "Active");
}

/// Every namespace with a name carries it in the label `kubernetes.io/metadata.name`.
pub fn set_name_label(body: &mut Tree) {
    let metadata = body.make("metadata");
    let name = metadata.text("name").to_owned();
    if !name.is_empty() {
        metadata.make("labels").insert("kubernetes.io/metadata.name".into(), name.into());
    }
}
