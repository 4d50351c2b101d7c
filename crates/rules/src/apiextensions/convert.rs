//! Conversion of CustomResourceDefinitions between v1 and v1beta1, the form in the store.
//!
//! Upstream writes v1beta1 with per-version schemas; v1 differs in three names and one list. What an old server wrote
//! (one schema for all versions at the top) is read as well.

use meta::{GroupVersionKind, Object, Status};
use serde_json::{Value, json};

use crate::{Defaults, Tree};

/// Fields that v1beta1 may have once for all versions, with their names in a version.
const PER_VERSION: [(&str, &str); 3] = [
    ("validation", "schema"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
];

/// Converts either way.
///
/// # Errors
/// None today.
pub fn convert(object: &mut Object, from: &GroupVersionKind, to: &GroupVersionKind) -> Result<(), Status> {
    let spec = object.body.make("spec");
    match (from.version.as_str(), to.version.as_str()) {
        ("v1", "v1beta1") => to_v1beta1(spec),
        ("v1beta1", "v1") => to_v1(spec),
        _ => {}
    }
    Ok(())
}

fn to_v1beta1(spec: &mut Tree) {
    // v1beta1 requires the old single version besides the list.
    let first = spec.each("versions").next().map(|v| v.text("name").to_owned());
    if let Some(first) = first {
        spec.insert("version".into(), first.into());
    }
    for version in spec.each("versions") {
        rename_columns(version, "jsonPath", "JSONPath");
    }
    if let Some(conversion) = spec.child("conversion")
        && let Some(Value::Object(webhook)) = conversion.remove("webhook")
    {
        for (old, new) in
            [("webhookClientConfig", "clientConfig"), ("conversionReviewVersions", "conversionReviewVersions")]
        {
            if let Some(value) = webhook.get(new) {
                conversion.insert(old.into(), value.clone());
            }
        }
    }
    // Upstream moves what all versions share to the top; both forms mean the same.
    hoist(spec);
    let preserve = spec.get("preserveUnknownFields").and_then(Value::as_bool).unwrap_or(false);
    spec.insert("preserveUnknownFields".into(), preserve.into());
}

/// Moves a field that every version has in the same value to the top, as upstream's conversion does.
fn hoist(spec: &mut Tree) {
    for (top, each) in PER_VERSION {
        let values: Vec<Option<Value>> = spec.each("versions").map(|v| v.get(each).cloned()).collect();
        let Some(Some(first)) = values.first().cloned() else { continue };
        if values.iter().all(|v| v.as_ref() == Some(&first)) {
            for version in spec.each("versions") {
                version.remove(each);
            }
            spec.insert(top.into(), first);
        }
    }
}

fn to_v1(spec: &mut Tree) {
    let single = spec.remove("version");
    if spec.unset("versions")
        && let Some(name) = single
    {
        spec.insert("versions".into(), json!([{"name": name, "served": true, "storage": true}]));
    }
    for (top, each) in PER_VERSION {
        if let Some(value) = spec.remove(top).filter(|v| !v.is_null()) {
            for version in spec.each("versions") {
                version.default_value(each, value.clone());
            }
        }
    }
    for version in spec.each("versions") {
        rename_columns(version, "JSONPath", "jsonPath");
    }
    if let Some(conversion) = spec.child("conversion") {
        let client = conversion.remove("webhookClientConfig");
        let versions = conversion.remove("conversionReviewVersions");
        if client.is_some() || versions.is_some() {
            let mut webhook = Tree::new();
            webhook.extend(client.map(|c| ("clientConfig".to_owned(), c)));
            webhook.extend(versions.map(|v| ("conversionReviewVersions".to_owned(), v)));
            conversion.insert("webhook".into(), webhook.into());
        }
    }
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(false)) {
        spec.remove("preserveUnknownFields");
    }
}

fn rename_columns(version: &mut Tree, from: &str, to: &str) {
    for column in version.each("additionalPrinterColumns") {
        if let Some(path) = column.remove(from) {
            column.insert(to.into(), path);
        }
    }
}
