//! PersistentVolumeClaim.

use meta::names;
use meta::quantity::Quantity;

use crate::resources::{quantity, round_requirements, round_up_milli};
use crate::{C, Defaults, Rules, Tree, meta_v1};

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate, validate_update: update, validate_status: status, revalidate: true };

/// How a volume may be mounted.
pub const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Defaults of a claim, also of one in a StatefulSet's templates.
pub fn default(body: &mut Tree) {
    default_spec(body.make("spec"));
    let status = body.make("status");
    status.default_str("phase", "Pending");
    round_up_milli(status.child("capacity"));
    round_up_milli(status.child("allocatedResources"));
}

/// Defaults of a claim's spec, also of an ephemeral volume's.
pub fn default_spec(spec: &mut Tree) {
    spec.default_value("volumeMode", "Filesystem");
    round_requirements(spec.child("resources"));
}

fn validate(claim: &C) {
    validate_spec(&claim.get("spec"));
}

/// Validates the spec of a claim, also of an ephemeral volume's.
pub fn validate_spec(spec: &C) {
    access_modes(&spec.get("accessModes"), "at least 1 access mode is required");
    meta_v1::label_selector(&spec.get("selector"));
    let requests = spec.get("resources.requests");
    let storage = requests.key("storage");
    if storage.exists() {
        if storage.value().and_then(quantity).is_none_or(|q| q.sign() <= 0) {
            storage.invalid("must be greater than zero");
        }
    } else {
        let path = spec.get("resources");
        path.key("storage").missing("");
    }
    let class = spec.get("storageClassName");
    if !class.is_zero() {
        class.check(names::dns1123_subdomain);
    }
    let attributes = spec.get("volumeAttributesClassName");
    if !attributes.is_zero() {
        attributes.check(names::dns1123_subdomain);
    }
    let mode = spec.get("volumeMode");
    if mode.exists() {
        mode.one_of(&["Block", "Filesystem"]);
    }
    for source in ["dataSource", "dataSourceRef"] {
        let source = spec.get(source);
        if source.exists() {
            source.get("name").required();
            source.get("kind").required();
            if !source.get("apiGroup").is_zero() {
                source.get("apiGroup").check(names::dns1123_subdomain);
            }
            if source.get("apiGroup").is_zero() && source.get("kind").str() != "PersistentVolumeClaim" {
                source.invalid_value(
                    source.get("kind").str(),
                    "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                );
            }
        }
    }
}

/// Access modes, at least one, `ReadWriteOncePod` only alone.
pub fn access_modes(modes: &C, absent: &str) {
    if modes.is_empty() {
        modes.missing(absent);
    }
    for mode in modes.items() {
        if !ACCESS_MODES.contains(&mode.str()) {
            modes.sink().push(meta::field::Error::not_supported(&modes.path(), mode.str(), &ACCESS_MODES));
        }
    }
    if modes.len() > 1 && modes.items().any(|m| m.str() == "ReadWriteOncePod") {
        modes.forbidden("may not use ReadWriteOncePod with other access modes");
    }
}

/// A bound claim may only grow, and get another attributes class.
fn update(new: &C, old: &C) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let strip = |spec: &C| {
        let mut tree = spec.value().and_then(serde_json::Value::as_object).cloned().unwrap_or_default();
        if let Some(requests) = tree.descend(&["resources", "requests"]) {
            requests.remove("storage");
        }
        tree.remove("volumeAttributesClassName");
        // A claim may be bound to a volume, once.
        if before.get("volumeName").is_zero() {
            tree.remove("volumeName");
        }
        // A claim of old without a class may get the default one.
        if before.get("storageClassName").value().is_none() {
            tree.remove("storageClassName");
        }
        serde_json::Value::Object(tree)
    };
    let (now, then) = (strip(&spec), strip(&before));
    if !crate::same_value(Some(&now), Some(&then)) {
        return spec.forbidden(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    let size = |c: &C| -> Option<Quantity> { c.get("resources.requests.storage").value().and_then(quantity) };
    if let (Some(now), Some(then)) = (size(&spec), size(&before)) {
        let bound = old.get("status.phase").str() == "Bound";
        let granted = old.get("status.capacity.storage").value().and_then(quantity);
        if now > then && !bound {
            spec.forbidden(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            );
        }
        if now < then && granted.is_none_or(|granted| now <= granted) {
            let requests = spec.get("resources.requests.storage");
            requests.forbidden("field can not be less than status.capacity");
        }
    }
}

fn status(new: &C, _old: &C) {
    let capacity = new.get("status.capacity");
    for (_, value) in capacity.entries() {
        if value.value().and_then(quantity).is_some_and(|q| q.sign() < 0) {
            value.invalid("must be greater than or equal to 0");
        }
    }
}
