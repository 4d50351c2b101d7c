//! Namespace.

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: |_, _| {}, validate_status: status, revalidate: false };

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

fn validate(namespace: &C) {
    finalizers(namespace);
}

fn finalizers(namespace: &C) {
    let list = namespace.get("spec.finalizers");
    for finalizer in list.items() {
        let name = finalizer.str();
        for finding in meta::names::qualified_name(name) {
            list.invalid_value(name, finding);
        }
        if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
            list.invalid_value(name, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
}

fn status(new: &C, _old: &C) {
    finalizers(new);
    let phase = new.get("status.phase");
    let deleting = new.get("metadata.deletionTimestamp").exists();
    let status = new.get("status");
    if !deleting && phase.str() != "Active" {
        status.get("Phase").invalid_value(phase.str(), "may only be 'Active' if `deletionTimestamp` is empty");
    } else if deleting && phase.str() != "Terminating" {
        status.get("Phase").invalid_value(phase.str(), "may only be 'Terminating' if `deletionTimestamp` is not empty");
    }
}
