//! Validation of object metadata, upstream's `ValidateObjectMeta` and `ValidateObjectMetaUpdate`.

use meta::field::{Error, Path};
use meta::{Object, names};
use serde_json::Value;

/// All annotations together, keys and values.
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Checks metadata on create. `name_errors` judges a name (second argument: as a prefix).
pub fn validate(object: &Object, namespaced: bool, name_errors: &dyn Fn(&str, bool) -> Vec<String>) -> Vec<Error> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    let generate = object.generate_name();
    if !generate.is_empty() {
        let messages = name_errors(generate, true);
        errors.extend(messages.into_iter().map(|m| Error::invalid(&path.child("generateName"), generate, m)));
    }
    let name = object.name();
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "name or generateName is required"));
    } else {
        let messages = name_errors(name, false);
        errors.extend(messages.into_iter().map(|m| Error::invalid(&path.child("name"), name, m)));
    }
    let namespace = object.namespace();
    if namespaced && namespace.is_empty() {
        errors.push(Error::required(&path.child("namespace"), ""));
    } else if namespaced {
        let messages = names::dns1123_label(namespace);
        errors.extend(messages.into_iter().map(|m| Error::invalid(&path.child("namespace"), namespace, m)));
    } else if !namespace.is_empty() {
        errors.push(Error::forbidden(&path.child("namespace"), "not allowed on this type"));
    }
    if object.generation() < 0 {
        errors.push(Error::invalid(
            &path.child("generation"),
            object.generation(),
            "must be greater than or equal to 0",
        ));
    }
    common(object, &path, &mut errors);
    finalizers(object, &path.child("finalizers"), &mut errors);
    errors
}

/// Checks metadata on update.
pub fn validate_update(object: &Object, old: &Object) -> Vec<Error> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    if old.deletion_timestamp().is_some() {
        let before = old.finalizers();
        let mut extra: Vec<&str> = object.finalizers().into_iter().filter(|f| !before.contains(f)).collect();
        extra.sort_unstable();
        if !extra.is_empty() {
            let listed: Vec<String> = extra.iter().map(|f| format!("{f:?}")).collect();
            errors.push(Error::forbidden(
                &path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    listed.join(", ")
                ),
            ));
        }
    }
    if object.resource_version().is_empty() {
        errors.push(Error::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    if object.generation() < old.generation() {
        errors.push(Error::invalid(&path.child("generation"), object.generation(), "must not be decremented"));
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let value = |o: &Object| o.metadata().and_then(|m| m.get(field)).cloned().filter(|v| !v.is_null());
        let (new, before) = (value(object), value(old));
        if new != before {
            errors.push(Error::invalid(&path.child(field), new.unwrap_or(Value::Null), "field is immutable"));
        }
    }
    common(object, &path, &mut errors);
    finalizers(object, &path.child("finalizers"), &mut errors);
    errors
}

fn common(object: &Object, path: &Path, errors: &mut Vec<Error>) {
    for (key, value) in object.labels() {
        let labels = path.child("labels");
        errors.extend(names::qualified_name(key).into_iter().map(|m| Error::invalid(&labels, key, m)));
        errors.extend(names::label_value(value).into_iter().map(|m| Error::invalid(&labels, value, m)));
    }
    let annotations = path.child("annotations");
    let mut size = 0;
    for (key, value) in object.annotations() {
        size += key.len() + value.len();
        let messages = names::qualified_name(&key.to_lowercase());
        errors.extend(messages.into_iter().map(|m| Error::invalid(&annotations, key, m)));
    }
    if size > MAX_ANNOTATIONS_BYTES {
        errors.push(Error::too_long(&annotations, MAX_ANNOTATIONS_BYTES));
    }
    owners(object, &path.child("ownerReferences"), errors);
}

fn owners(object: &Object, path: &Path, errors: &mut Vec<Error>) {
    let mut controller: Option<String> = None;
    for owner in object.owner_references() {
        let version = owner.api_version.rsplit('/').next().unwrap_or("");
        if version.is_empty() {
            errors.push(Error::invalid(
                &path.child("apiVersion"),
                owner.api_version.as_str(),
                "version must not be empty",
            ));
        }
        for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
            if value.is_empty() {
                errors.push(Error::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            errors.push(Error::invalid(path, owner.name.as_str(), "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.controller == Some(true) {
            let this = format!("{}/{}", owner.kind, owner.name);
            match &controller {
                None => controller = Some(this),
                Some(first) => errors.push(Error::invalid(
                    path,
                    object.metadata().and_then(|m| m.get("ownerReferences")).cloned().unwrap_or_default(),
                    format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"),
                )),
            }
        }
    }
}

fn finalizers(object: &Object, path: &Path, errors: &mut Vec<Error>) {
    let all = object.finalizers();
    for finalizer in &all {
        errors.extend(names::qualified_name(finalizer).into_iter().map(|m| Error::invalid(path, *finalizer, m)));
    }
    if all.contains(&ORPHAN) && all.contains(&FOREGROUND) {
        let listed: Vec<String> = all.iter().map(|f| (*f).to_owned()).collect();
        errors.push(Error::invalid(path, listed, format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set")));
    }
}
