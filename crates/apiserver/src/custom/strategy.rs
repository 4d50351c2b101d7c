//! The strategies of custom resources.

use std::sync::Arc;

use meta::field::{Error, ErrorType, Path};
use meta::{Object, field};
use registry::{Column, Ctx, SelectableField, Strategy};
use serde_json::Value;

use super::codec::Definition;
use super::columns;
use super::validate::Validator;

/// The object itself.
pub(super) struct Main(pub Arc<Definition>);

/// The status subresource.
pub(super) struct StatusPart(pub Arc<Definition>);

/// Checks by schema, then by rules; rules are not run on a value of a shape that they do not expect.
fn validate(definition: &Definition, object: &Object, old: Option<&Object>) -> Vec<Error> {
    let Some(version) = definition.version(&object.gvk().version) else { return Vec::new() };
    let Some(schema) = &version.schema else { return Vec::new() };
    let tree = Value::Object(object.body.clone());
    let mut validator = Validator { patterns: &definition.patterns, errors: Vec::new() };
    let old = old.map(|old| Value::Object(old.body.clone()));
    validator.check(&tree, old.as_ref(), schema, ("", true));
    let mut errors = validator.errors;
    let Some(rules) = &version.rules else { return errors };
    let blocking = |error: &Error| {
        matches!(error.kind, ErrorType::Required | ErrorType::TooLong | ErrorType::TooMany | ErrorType::TypeInvalid)
            || error.detail.contains(" must be of type ")
    };
    if errors.iter().any(blocking) {
        let why = "some validation rules were not checked because the object was invalid; correct the existing errors \
                   to complete validation";
        errors.push(Error::invalid(&Path::default(), Value::Null, why));
        return errors;
    }
    errors.extend(rules.check(&tree, old.as_ref()));
    errors
}

/// What rules have against values that an update did not change.
fn warnings(definition: &Definition, object: &Object, old: &Object) -> Vec<String> {
    let rules = definition.version(&object.gvk().version).and_then(|version| version.rules.as_ref());
    let tree = |object: &Object| Value::Object(object.body.clone());
    rules.map(|rules| rules.warnings(&tree(object), &tree(old))).unwrap_or_default()
}

impl Strategy for Main {
    fn prepare_for_create(&self, _cx: &Ctx, object: &mut Object) {
        if self.0.has_status(&object.gvk().version) {
            object.body.remove("status");
        }
    }

    fn validate(&self, _cx: &Ctx, object: &Object) -> Vec<field::Error> {
        validate(&self.0, object, None)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_for_update(&self, _cx: &Ctx, object: &mut Object, old: &Object) {
        if self.0.has_status(&object.gvk().version) {
            match old.body.get("status") {
                Some(status) => drop(object.body.insert("status".into(), status.clone())),
                None => drop(object.body.remove("status")),
            }
        }
    }

    fn validate_update(&self, _cx: &Ctx, object: &Object, old: &Object) -> Vec<field::Error> {
        validate(&self.0, object, Some(old))
    }

    fn warnings_on_update(&self, _cx: &Ctx, object: &Object, old: &Object) -> Vec<String> {
        warnings(&self.0, object, old)
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn generation_changed(&self, object: &Object, old: &Object) -> bool {
        let with_status = !self.0.has_status(&object.gvk().version);
        let rest = |o: &Object| -> serde_json::Map<String, Value> {
            let kept = |k: &str| k != "metadata" && (with_status || k != "status");
            o.body.iter().filter(|(k, _)| kept(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        rest(object) != rest(old)
    }

    fn reset_fields(&self) -> &'static [&'static [&'static str]] {
        if self.0.any_status { &[&["status"]] } else { &[] }
    }

    fn selectable_fields(&self) -> &'static [SelectableField] {
        self.0.selectable
    }

    fn return_deleted_object(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        columns::heads(&self.0.hub().columns)
    }

    fn cells(&self, object: &Object, now: i64) -> Vec<Value> {
        columns::cells(&self.0.hub().columns, object, now)
    }
}

impl Strategy for StatusPart {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn prepare_for_update(&self, _cx: &Ctx, object: &mut Object, old: &Object) {
        let status = object.body.remove("status");
        let managed = object.metadata().and_then(|m| m.get("managedFields")).cloned();
        let version = object.resource_version().to_owned();
        let mut fresh = old.clone();
        match status {
            Some(status) => drop(fresh.body.insert("status".into(), status)),
            None => drop(fresh.body.remove("status")),
        }
        if let Some(managed) = managed {
            fresh.metadata_mut().insert("managedFields".into(), managed);
        }
        fresh.set_meta_str("resourceVersion", &version);
        *object = fresh;
    }

    fn validate_update(&self, _cx: &Ctx, object: &Object, old: &Object) -> Vec<field::Error> {
        validate(&self.0, object, Some(old))
    }

    fn warnings_on_update(&self, _cx: &Ctx, object: &Object, old: &Object) -> Vec<String> {
        warnings(&self.0, object, old)
    }

    fn reset_fields(&self) -> &'static [&'static [&'static str]] {
        &[&["spec"], &["metadata", "labels"], &["metadata", "annotations"]]
    }
}
