//! The strategy that nearly all kinds share, driven by a constant per kind.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{Object, field};
use registry::{Column, Ctx, Graceful, Hooks, SelectableField, Strategy};
use rules::Rules;
use serde_json::Value;

use crate::printer::Col;

/// What a kind says about itself; unspecified parts come from [`Standard::PLAIN`].
#[derive(Clone, Copy)]
pub struct Standard {
    /// Defaults and validation.
    pub rules: Rules,
    /// Whether there is a status subresource: then status is emptied on create and kept on update.
    pub status: bool,
    /// Whether the kind keeps `metadata.generation`.
    pub generation: bool,
    /// Validates the name (with the generateName flag).
    pub name: fn(&str, bool) -> Vec<String>,
    /// Whether PUT creates.
    pub create_on_update: bool,
    /// Whether an update may come without resourceVersion.
    pub unconditional_update: bool,
    /// Selectable fields.
    pub fields: &'static [SelectableField],
    /// Table columns.
    pub columns: &'static [Col],
    /// Table cells of an object at a time (seconds since the epoch).
    pub cells: fn(&Object, i64) -> Vec<Value>,
    /// More to prepare on create, after the status was emptied.
    pub prepare_create: fn(&Ctx, &mut Object),
    /// More to prepare on update, after the status was kept.
    pub prepare_update: fn(&Ctx, &mut Object, &Object),
    /// Warnings on create, and on update of the new object.
    pub warnings: fn(&Object) -> Vec<String>,
    /// How long a deleted object lingers.
    pub graceful: fn(&Object, Option<i64>) -> Graceful,
    /// The last change before a write.
    pub canonicalize: fn(&mut Object),
    /// Whether the object stays although metadata finalizers are gone.
    pub pending_finalizers: fn(&Object) -> bool,
    /// What changes besides metadata when the object is marked for deletion.
    pub mark_deleting: fn(&mut Object),
    /// Seconds that an object lives.
    pub ttl_seconds: Option<i64>,
    /// Whether a delete answers with the object.
    pub return_deleted: bool,
    /// Whether a delete that names no policy orphans what the object owns, as kinds older than the policy do.
    pub orphans: bool,
    /// Whether an update may raise `metadata.generation` at all.
    pub generation_moves: bool,
    /// Changes an object whenever it is read.
    pub decorator: Option<fn(&mut Object)>,
}

impl Standard {
    /// Metadata only: a DNS subdomain as name, no status, the columns Name and Age.
    pub const PLAIN: Standard = Standard {
        rules: Rules::NONE,
        status: false,
        generation: false,
        name: registry::names::dns1123_subdomain,
        create_on_update: false,
        unconditional_update: true,
        fields: &[],
        columns: &[crate::printer::NAME, crate::printer::AGE],
        cells: crate::printer::name_and_age,
        prepare_create: |_, _| {},
        prepare_update: |_, _, _| {},
        warnings: |_| Vec::new(),
        graceful: |_, _| Graceful::No,
        canonicalize: |_| {},
        pending_finalizers: |_| false,
        mark_deleting: |_| {},
        ttl_seconds: None,
        return_deleted: false,
        orphans: false,
        generation_moves: true,
        decorator: None,
    };

    /// The strategy of the object itself.
    pub fn main(&'static self) -> Arc<dyn Strategy> {
        Arc::new(Main { standard: self, hooks: None })
    }

    /// The strategy of the object itself, with side effects around writes.
    pub fn with_hooks(&'static self, hooks: Arc<dyn Hooks>) -> Arc<dyn Strategy> {
        Arc::new(Main { standard: self, hooks: Some(hooks) })
    }

    /// The strategy of the status subresource.
    pub fn status(&'static self) -> Arc<dyn Strategy> {
        self.part(&["status"], &[], |_, _| {})
    }

    /// The strategy of the status subresource of newer kinds, which may change nothing of the metadata.
    pub fn status_only(&'static self) -> Arc<dyn Strategy> {
        self.part(&["status"], &["labels", "annotations", "finalizers", "ownerReferences"], |_, _| {})
    }

    /// The strategy of a subresource that may change only the given top-level parts besides metadata.
    ///
    /// `kept_metadata` names metadata fields that the endpoint may not touch; `more` runs last.
    pub fn part(
        &'static self,
        changes: &'static [&'static str],
        kept_metadata: &'static [&'static str],
        more: fn(&mut Object, &Object),
    ) -> Arc<dyn Strategy> {
        Arc::new(Part { standard: self, changes, kept_metadata, more })
    }
}

struct Main {
    standard: &'static Standard,
    hooks: Option<Arc<dyn Hooks>>,
}

#[async_trait]
impl Strategy for Main {
    fn default_object(&self, object: &mut Object) {
        (self.standard.rules.default)(&mut object.body);
    }

    fn prepare_for_create(&self, cx: &Ctx, object: &mut Object) {
        if self.standard.status {
            object.body.remove("status");
        }
        (self.standard.prepare_create)(cx, object);
    }

    fn validate(&self, _cx: &Ctx, object: &Object) -> Vec<field::Error> {
        self.standard.rules.check(object)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        (self.standard.name)(name, prefix)
    }

    fn warnings_on_create(&self, _cx: &Ctx, object: &Object) -> Vec<String> {
        (self.standard.warnings)(object)
    }

    fn canonicalize(&self, object: &mut Object) {
        (self.standard.canonicalize)(object);
    }

    fn allow_create_on_update(&self) -> bool {
        self.standard.create_on_update
    }

    fn allow_unconditional_update(&self) -> bool {
        self.standard.unconditional_update
    }

    fn prepare_for_update(&self, cx: &Ctx, object: &mut Object, old: &Object) {
        if self.standard.status {
            keep(object, old, "status");
        }
        (self.standard.prepare_update)(cx, object, old);
    }

    fn validate_update(&self, _cx: &Ctx, object: &Object, old: &Object) -> Vec<field::Error> {
        self.standard.rules.check_update(object, old)
    }

    fn warnings_on_update(&self, _cx: &Ctx, object: &Object, old: &Object) -> Vec<String> {
        let before = (self.standard.warnings)(old);
        let mut now = (self.standard.warnings)(object);
        now.retain(|warning| !before.contains(warning));
        now
    }

    fn has_generation(&self) -> bool {
        self.standard.generation
    }

    fn reset_fields(&self) -> &'static [&'static [&'static str]] {
        if self.standard.status { &[&["status"]] } else { &[] }
    }

    fn check_graceful_delete(&self, _cx: &Ctx, object: &Object, requested: Option<i64>) -> Graceful {
        (self.standard.graceful)(object, requested)
    }

    fn selectable_fields(&self) -> &'static [SelectableField] {
        self.standard.fields
    }

    fn columns(&self) -> Vec<Column> {
        self.standard.columns.iter().map(Col::column).collect()
    }

    fn cells(&self, object: &Object, now: i64) -> Vec<Value> {
        (self.standard.cells)(object, now)
    }

    fn hooks(&self) -> Option<&dyn Hooks> {
        self.hooks.as_deref()
    }

    fn pending_finalizers(&self, object: &Object) -> bool {
        (self.standard.pending_finalizers)(object)
    }

    fn mark_deleting(&self, object: &mut Object) {
        (self.standard.mark_deleting)(object);
    }

    fn ttl_seconds(&self) -> Option<i64> {
        self.standard.ttl_seconds
    }

    fn decorator(&self) -> Option<fn(&mut Object)> {
        self.standard.decorator
    }

    fn default_orphan_dependents(&self) -> bool {
        self.standard.orphans
    }

    fn generation_changed(&self, object: &Object, old: &Object) -> bool {
        self.standard.generation_moves && differs(object, old)
    }

    fn return_deleted_object(&self) -> bool {
        self.standard.return_deleted
    }
}

struct Part {
    standard: &'static Standard,
    changes: &'static [&'static str],
    kept_metadata: &'static [&'static str],
    more: fn(&mut Object, &Object),
}

#[async_trait]
impl Strategy for Part {
    fn default_object(&self, object: &mut Object) {
        (self.standard.rules.default)(&mut object.body);
    }

    fn prepare_for_update(&self, _cx: &Ctx, object: &mut Object, old: &Object) {
        let fixed = |name: &str| !matches!(name, "metadata" | "apiVersion" | "kind") && !self.changes.contains(&name);
        object.body.retain(|name, _| !fixed(name));
        for (name, value) in old.body.iter().filter(|(name, _)| fixed(name)) {
            object.body.insert(name.clone(), value.clone());
        }
        for field in self.kept_metadata {
            let value = old.metadata().and_then(|m| m.get(*field)).cloned();
            let metadata = object.metadata_mut();
            match value {
                Some(value) => metadata.insert((*field).to_owned(), value),
                None => metadata.remove(*field),
            };
        }
        (self.more)(object, old);
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        (self.standard.name)(name, prefix)
    }

    fn validate_update(&self, _cx: &Ctx, object: &Object, old: &Object) -> Vec<field::Error> {
        self.standard.rules.check_status(object, old)
    }

    fn allow_unconditional_update(&self) -> bool {
        self.standard.unconditional_update
    }

    fn pending_finalizers(&self, object: &Object) -> bool {
        (self.standard.pending_finalizers)(object)
    }

    fn has_generation(&self) -> bool {
        self.standard.generation
    }

    fn reset_fields(&self) -> &'static [&'static [&'static str]] {
        if self.changes.contains(&"status") { &[&["spec"]] } else { &[&["status"]] }
    }

    fn selectable_fields(&self) -> &'static [SelectableField] {
        self.standard.fields
    }

    fn columns(&self) -> Vec<Column> {
        self.standard.columns.iter().map(Col::column).collect()
    }

    fn cells(&self, object: &Object, now: i64) -> Vec<Value> {
        (self.standard.cells)(object, now)
    }
}

/// Whether anything but metadata and status differs.
fn differs(object: &Object, old: &Object) -> bool {
    let matters = |name: &str| !matches!(name, "metadata" | "status" | "apiVersion" | "kind");
    let names = object.body.keys().chain(old.body.keys()).filter(|name| matters(name));
    names.into_iter().any(|name| !rules::same_value(present(object, name), present(old, name)))
}

fn present<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object.body.get(name).filter(|v| !v.is_null())
}

/// Makes a top-level part what it is in the old object.
pub fn keep(object: &mut Object, old: &Object, part: &str) {
    match old.body.get(part) {
        Some(value) => object.body.insert(part.to_owned(), value.clone()),
        None => object.body.remove(part),
    };
}
